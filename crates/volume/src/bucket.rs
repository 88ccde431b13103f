//! A plain bucket as an origin: one object is one file, as it is.

use std::sync::Arc;

use shoal_object::{Location, ObjectOptions, ObjectStore};
use shoal_runtime::metrics::Registry;
use shoal_types::OriginId;
use url::Url;

use crate::error::VolumeError;
use crate::redact::redact;

/// An open plain bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// Its identity among the origins of a cache node.
    pub origin: OriginId,
    /// Its objects.
    pub objects: Arc<dyn ObjectStore>,
}

/// Opens the bucket at `url`: `file:///DIR`, `s3://BUCKET` or `http(s)://HOST[:PORT]/BUCKET`. Credentials come from the environment
/// (`AWS_ACCESS_KEY_ID` and its companions).
pub async fn open_bucket(url: &str, options: &ObjectOptions, registry: &Registry) -> Result<Bucket, VolumeError> {
    let location = locate(url)?;
    let objects = shoal_object::open(&location, options, registry)?;
    shoal_object::probe(&*objects).await?;
    Ok(Bucket { origin: OriginId::of_bucket(url.trim_end_matches('/')), objects })
}

fn locate(url: &str) -> Result<Location, VolumeError> {
    let bad = || VolumeError::BadBucketUrl { url: redact(url) };
    let parsed = Url::parse(url).map_err(|_| bad())?;
    let (storage, bucket) = match parsed.scheme() {
        // The text itself: a parsed path has its spaces and letters beyond ASCII encoded.
        "file" => {
            let path = url.strip_prefix("file://").filter(|path| path.starts_with('/')).ok_or_else(bad)?;
            ("file", format!("{}/", path.trim_end_matches('/')))
        }
        "s3" => ("s3", format!("https://{}.s3.amazonaws.com", parsed.host_str().ok_or_else(bad)?)),
        "http" | "https" => ("s3", url.to_owned()),
        _ => return Err(bad()),
    };
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    Ok(Location {
        storage: storage.to_owned(),
        bucket,
        access_key: variable("AWS_ACCESS_KEY_ID"),
        secret_key: variable("AWS_SECRET_ACCESS_KEY"),
        session_token: variable("AWS_SESSION_TOKEN"),
        storage_class: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_urls_name_their_store() {
        let of = |url| locate(url).map(|location| (location.storage, location.bucket));
        assert_eq!(of("file:///data/x").expect("valid"), ("file".into(), "/data/x/".into()));
        assert_eq!(of("file:///größe 1/").expect("valid").1, "/größe 1/");
        assert_eq!(of("s3://models").expect("valid"), ("s3".into(), "https://models.s3.amazonaws.com".into()));
        assert_eq!(of("http://127.0.0.1:9000/b").expect("valid").0, "s3");
        assert!(of("ftp://x/y").is_err());
        assert!(of("/data/x").is_err());
    }
}
