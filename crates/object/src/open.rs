//! Opens the store a [`Location`] names: the one place that knows storage types, and the order of the decorators.
//!
//! From the caller down: `rate` (bytes a second, where they are bounded) - `verify` (whole objects against their checksum) - `retry` (repeats, resumes) - `pace` (slow bodies
//! go on elsewhere) - `limit` (requests in flight; a permit is not held while `retry` pauses) - `hedge` (late answers, asked
//! for again: a twentieth of all requests, beyond the limit) - `measure` (each request that goes out) - `timeout` (does not
//! count the wait for a permit) - the store. A directory has no second connection to try, so `pace` and `hedge` are left
//! out; storage `mem` has nothing to wait for and comes undecorated but for `measure`.

use std::{path::PathBuf, sync::Arc};

use opendal::{HttpTransporter, OperationContext, Operator, services::S3};
use shoal_runtime::metrics::Registry;

use crate::{
    Location, ObjectError, ObjectOptions, ObjectStore,
    file::{self, FileStore},
    hedge::HedgeStore,
    limit::LimitStore,
    measure::MeasureStore,
    memory,
    metrics::ObjectMetrics,
    operator::{Checksums, OperatorStore},
    pace::PaceStore,
    rate::RateStore,
    retry::RetryStore,
    s3_url,
    timeout::TimeoutStore,
    transport::CheckedTransport,
    verify::VerifyStore,
};

/// The storage types [`open`] knows, as JuiceFS names them.
pub const SUPPORTED: [&str; 3] = ["file", "s3", "mem"];

/// What a setting holds in the place of a secret that was stripped from it (`juicefs dump`).
const REMOVED: &str = "removed";
/// The access key JuiceFS takes for "do not sign".
const ANONYMOUS: &str = "anonymous";

/// The store of `location`, with retries, timeouts, limits and metrics around it.
///
/// Opens no connection and touches no file: use [`crate::probe`] to know whether the store answers. Connections live in
/// the tokio runtime that first asks; use a store from one runtime. Errors: `Invalid` in one sentence for an unknown
/// storage type, a bucket that cannot be read, or half a pair of keys.
pub fn open(
    location: &Location,
    options: &ObjectOptions,
    registry: &Registry,
) -> Result<Arc<dyn ObjectStore>, ObjectError> {
    let metrics = Arc::new(ObjectMetrics::register(registry));
    match location.storage.as_str() {
        "file" => {
            let timed = timed(Arc::new(FileStore::new(directory(location)?)), options, &metrics);
            let limited = Arc::new(LimitStore::new(timed, options.max_concurrent));
            Ok(repeated(limited, options, metrics))
        }
        "s3" => Ok(decorated(Arc::new(s3(location, options)?), options, metrics)),
        "mem" => Ok(Arc::new(MeasureStore::new(memory::shared(&location.bucket), metrics))),
        _ => Err(unsupported(location)),
    }
}

/// Makes the bucket of `location` where that needs nothing but a directory (`file`, parents included).
///
/// For whoever formats a volume. Buckets of cloud stores are made by their owner: for them this does nothing.
pub async fn create(location: &Location) -> Result<(), ObjectError> {
    match location.storage.as_str() {
        "file" => file::create(directory(location)?).await,
        known if SUPPORTED.contains(&known) => Ok(()),
        _ => Err(unsupported(location)),
    }
}

/// `store` with every decorator around it; public for tests and benches that bring their own store.
pub fn decorate(store: Arc<dyn ObjectStore>, options: &ObjectOptions, registry: &Registry) -> Arc<dyn ObjectStore> {
    decorated(store, options, Arc::new(ObjectMetrics::register(registry)))
}

fn decorated(
    store: Arc<dyn ObjectStore>,
    options: &ObjectOptions,
    metrics: Arc<ObjectMetrics>,
) -> Arc<dyn ObjectStore> {
    let hedged = Arc::new(HedgeStore::new(timed(store, options, &metrics), options, metrics.clone()));
    let limited = Arc::new(LimitStore::new(hedged, options.max_concurrent));
    repeated(Arc::new(PaceStore::new(limited, metrics.clone())), options, metrics)
}

fn timed(store: Arc<dyn ObjectStore>, options: &ObjectOptions, metrics: &Arc<ObjectMetrics>) -> Arc<dyn ObjectStore> {
    let timed = Arc::new(TimeoutStore::new(store, options));
    Arc::new(MeasureStore::new(timed, metrics.clone()))
}

fn repeated(store: Arc<dyn ObjectStore>, options: &ObjectOptions, metrics: Arc<ObjectMetrics>) -> Arc<dyn ObjectStore> {
    let verified = Arc::new(VerifyStore::new(Arc::new(RetryStore::new(store, options, metrics))));
    match (options.upload_bytes_per_s, options.download_bytes_per_s) {
        (0, 0) => verified,
        (sent, received) => Arc::new(RateStore::new(verified, sent, received)),
    }
}

fn directory(location: &Location) -> Result<PathBuf, ObjectError> {
    let path = location.bucket.strip_prefix("file://").unwrap_or(&location.bucket);
    if !path.starts_with('/') {
        return Err(refused(location, "a file bucket is an absolute path such as /var/jfs/"));
    }
    Ok(PathBuf::from(path))
}

fn s3(location: &Location, options: &ObjectOptions) -> Result<OperatorStore, ObjectError> {
    let env = |name: &str| std::env::var(name).ok();
    let target = s3_url::parse(&location.bucket, &env).map_err(|why| refused(location, why))?;
    let mut service = S3::default().bucket(&target.bucket).endpoint(&target.endpoint).region(&target.region);
    if !location.storage_class.is_empty() {
        service = service.default_storage_class(&location.storage_class);
    }
    if target.virtual_host {
        service = service.enable_virtual_host_style();
    }
    match (location.access_key.as_str(), location.secret_key.as_str()) {
        // The environment, the profile files, or the instance say who we are.
        ("", "") => {}
        (ANONYMOUS, _) => service = service.skip_signature(),
        (_, REMOVED) => {
            return Err(refused(location, "its secret key was removed from the setting: set it again"));
        }
        ("", _) => return Err(refused(location, "it has a secret key but no access key")),
        (_, "") => return Err(refused(location, "it has an access key but no secret key")),
        (access, secret) => {
            service = service.access_key_id(access).secret_access_key(secret).session_token(&location.session_token);
            service = service.disable_config_load().disable_ec2_metadata();
        }
    }
    let operator = Operator::new(service).map_err(|error| refused(location, error.message()))?;
    let transport = CheckedTransport::new(&target.endpoint, options).map_err(|why| refused(location, why))?;
    let context = OperationContext::new().with_http_transport(HttpTransporter::new(transport));
    let name = format!("s3 bucket `{}` at {}", target.bucket, target.endpoint);
    let checksums = if target.without_checksum { Checksums::Omit } else { Checksums::Attach };
    Ok(OperatorStore::new(operator.with_context(context), name, checksums))
}

fn refused(location: &Location, why: impl Into<String>) -> ObjectError {
    ObjectError::Location { storage: location.storage.clone(), bucket: location.bucket.clone(), why: why.into() }
}

fn unsupported(location: &Location) -> ObjectError {
    ObjectError::Unsupported { storage: location.storage.clone(), supported: SUPPORTED.join(", ") }
}

#[cfg(test)]
mod tests {
    use shoal_types::ErrorKind;

    use super::*;

    fn opened(storage: &str, bucket: &str, keys: (&str, &str)) -> Result<Arc<dyn ObjectStore>, ObjectError> {
        let location = Location {
            storage: storage.into(),
            bucket: bucket.into(),
            access_key: keys.0.into(),
            secret_key: keys.1.into(),
            ..Location::default()
        };
        open(&location, &ObjectOptions::default(), &Registry::new())
    }

    #[test]
    fn an_unknown_storage_type_is_refused_with_the_known_ones() {
        let error = opened("wasb", "x", ("", "")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.to_string(), "object storage `wasb` is not supported yet; supported are: file, s3, mem");
    }

    #[test]
    fn names_say_kind_and_place() {
        assert_eq!(opened("file", "/var/jfs/", ("", "")).unwrap().name(), "directory /var/jfs/");
        let s3 = opened("s3", "http://127.0.0.1:9000/b", ("AK", "SK")).unwrap();
        assert_eq!(s3.name(), "s3 bucket `b` at http://127.0.0.1:9000");
        assert_eq!(opened("mem", "m", ("", "")).unwrap().name(), "memory bucket `m`");
    }

    #[test]
    fn half_a_location_is_refused() {
        for (storage, bucket, keys) in [
            ("file", "relative/dir", ("", "")),
            ("s3", "http://127.0.0.1:9000", ("AK", "SK")),
            ("s3", "http://127.0.0.1:9000/b", ("AK", "")),
            ("s3", "http://127.0.0.1:9000/b", ("", "SK")),
            ("s3", "http://127.0.0.1:9000/b", ("AK", "removed")),
        ] {
            let error = opened(storage, bucket, keys).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(!error.to_string().contains("SK"), "{error}");
        }
    }
}
