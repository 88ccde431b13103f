//! Bucket URLs of S3 storage, read the way JuiceFS reads them (`pkg/object/s3.go`, `newS3`), so that a volume's
//! setting means the same bucket to both. Pure: no network, the environment is an argument.
//!
//! | form | bucket | endpoint |
//! |---|---|---|
//! | `https://BUCKET.s3.REGION.amazonaws.com[.cn]`, `BUCKET.s3-REGION...`, `BUCKET.s3...` | first part | AWS |
//! | `https://s3.REGION.amazonaws.com[.cn]/BUCKET` | path | AWS |
//! | `https://BUCKET.vpce-ID.s3.REGION.vpce.amazonaws.com` | first label | the rest |
//! | `http://HOST[:PORT]/BUCKET[/ignored]` | first path segment | host |
//! | `https://BUCKET.HOST[:PORT]` | first label | the rest |
//! | `BUCKET`, `s3://BUCKET` | all of it | AWS |
//!
//! Without a scheme, `http://` is put before a name with dots that does not end in `.amazonaws.com`, else `https://`.
//! Region: the one in the URL, else `AWS_REGION`, else `AWS_DEFAULT_REGION`, else us-east-1. (For the bare `BUCKET`
//! form JuiceFS asks AWS for the bucket's location; here the environment must say it where it is not us-east-1.)
//! Addressing: virtual-host style on AWS (path style for buckets with dots, whose names break TLS wildcards), path
//! style elsewhere, unless `JFS_S3_VHOST_STYLE` is set to anything but `0` or `false`.

use url::{Host, Url};

/// The region of an AWS account that never chose one.
const DEFAULT_REGION: &str = "us-east-1";

/// Looks up an environment variable; an empty one counts as unset.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a bucket URL says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) bucket: String,
    /// Scheme, host and port, without the bucket.
    pub(crate) endpoint: String,
    pub(crate) region: String,
    /// The bucket is part of the host name rather than of the path.
    pub(crate) virtual_host: bool,
    /// `?disable-checksum=true`: put no `Crc32c` metadata.
    pub(crate) without_checksum: bool,
}

/// Reads `bucket`. Errors: a sentence about what is wrong with it.
pub(crate) fn parse(bucket: &str, env: Env) -> Result<Target, String> {
    let with_scheme = match bucket.split_once("://") {
        Some(("s3", name)) if name.trim_end_matches('/').contains(['/', '?', ':']) => {
            return Err("the s3:// form takes a bucket name only; write https://HOST/BUCKET".to_owned());
        }
        Some(("s3", name)) => format!("https://{}", name.trim_end_matches('/')),
        Some(_) => bucket.to_owned(),
        None if bucket.contains('.') && !bucket.ends_with(".amazonaws.com") => format!("http://{bucket}"),
        None => format!("https://{bucket}"),
    };
    let url = Url::parse(with_scheme.trim_end_matches('/')).map_err(|error| format!("it is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("`{}` is not a scheme of S3; use http:// or https://", url.scheme()));
    }
    let host = url.host_str().ok_or("it names no host")?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path_bucket = url.path().trim_start_matches('/').split('/').next().filter(|name| !name.is_empty());

    let mut target = if host.contains(".amazonaws.com") && !host.contains(".vpce.amazonaws.com") {
        aws(url.scheme(), host, path_bucket)
    } else if let Some(name) = path_bucket {
        elsewhere(url.scheme(), name, &format!("{host}{port}"), None)
    } else {
        bucket_in_host(&url, host, &port)?
    };
    if target.region.is_empty() {
        let named = ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(|name| lookup(env, name));
        target.region = named.unwrap_or_else(|| DEFAULT_REGION.to_owned());
    }
    if target.endpoint.is_empty() {
        target.endpoint = aws_endpoint(url.scheme(), &target.region, false);
        target.virtual_host = !target.bucket.contains('.');
    } else if !target.endpoint.contains(".amazonaws.com") || target.endpoint.contains(".vpce.") {
        let wanted = lookup(env, "JFS_S3_VHOST_STYLE").is_some_and(|v| v != "0" && v != "false");
        target.virtual_host = wanted && !target.bucket.contains('.');
    }
    if target.bucket.is_empty() {
        return Err("it names no bucket; write https://HOST/BUCKET".to_owned());
    }
    target.without_checksum =
        url.query_pairs().any(|(name, value)| name == "disable-checksum" && value.eq_ignore_ascii_case("true"));
    Ok(target)
}

/// `BUCKET.s3...` or `s3.../BUCKET` under amazonaws.com.
fn aws(scheme: &str, host: &str, path_bucket: Option<&str>) -> Target {
    let (bucket, service) = match path_bucket {
        Some(bucket) => (bucket.to_owned(), host.to_owned()),
        None => match host.split_once(".s3") {
            Some((bucket, rest)) => (bucket.to_owned(), format!("s3{rest}")),
            None => (String::new(), host.to_owned()),
        },
    };
    let region = aws_region(&service);
    let endpoint = aws_endpoint(scheme, &region, host.ends_with(".cn"));
    let virtual_host = !bucket.contains('.');
    Target { bucket, endpoint, region, virtual_host, without_checksum: false }
}

/// `s3.REGION.amazonaws.com`, `s3-REGION...`, `s3.dualstack.REGION...`, `s3.amazonaws.com`.
fn aws_region(service: &str) -> String {
    let rest = service.strip_prefix("s3-").or_else(|| service.strip_prefix("s3.")).unwrap_or(service);
    let rest = rest.strip_prefix("dualstack.").unwrap_or(rest);
    match rest.split('.').next().unwrap_or_default() {
        "amazonaws" | "external-1" | "" => DEFAULT_REGION.to_owned(),
        region => region.to_owned(),
    }
}

fn aws_endpoint(scheme: &str, region: &str, china: bool) -> String {
    let suffix = if china || region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("{scheme}://s3.{region}.{suffix}")
}

fn bucket_in_host(url: &Url, host: &str, port: &str) -> Result<Target, String> {
    if !matches!(url.host(), Some(Host::Domain(_))) {
        return Err(format!("it names no bucket; write {}://{host}{port}/BUCKET", url.scheme()));
    }
    match host.split_once('.') {
        // AWS, in a region only the environment can name.
        None if port.is_empty() => Ok(elsewhere("", host, "", None)),
        None => Err(format!("it names no bucket; write {}://{host}{port}/BUCKET", url.scheme())),
        Some((bucket, rest)) => {
            let region = region_in(rest);
            Ok(elsewhere(url.scheme(), bucket, &format!("{rest}{port}"), region))
        }
    }
}

fn elsewhere(scheme: &str, bucket: &str, host: &str, region: Option<&str>) -> Target {
    let endpoint = if host.is_empty() { String::new() } else { format!("{scheme}://{host}") };
    Target {
        bucket: bucket.to_owned(),
        endpoint,
        region: region.unwrap_or_default().to_owned(),
        virtual_host: false,
        without_checksum: false,
    }
}

/// Regions that VPC endpoints, Oracle's and OVH's host names carry.
fn region_in(host: &str) -> Option<&str> {
    if let Some((before, _)) = host.split_once(".vpce.amazonaws.com") {
        return before.rsplit('.').next();
    }
    if let Some((_, after)) = host.split_once(".compat.objectstorage.") {
        return after.strip_suffix(".oraclecloud.com");
    }
    host.strip_prefix("s3.")
        .and_then(|rest| rest.strip_suffix(".cloud.ovh.net"))
        .and_then(|rest| rest.split('.').next())
}

fn lookup(env: Env, name: &str) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    #[track_caller]
    fn check(url: &str, bucket: &str, endpoint: &str, region: &str, virtual_host: bool) {
        let target = parse(url, &none).unwrap_or_else(|why| panic!("{url}: {why}"));
        let want = Target {
            bucket: bucket.into(),
            endpoint: endpoint.into(),
            region: region.into(),
            virtual_host,
            without_checksum: false,
        };
        assert_eq!(target, want, "{url}");
    }

    #[test]
    fn aws_forms() {
        let west = "https://s3.us-west-2.amazonaws.com";
        check("https://b.s3.us-west-2.amazonaws.com", "b", west, "us-west-2", true);
        check("https://b.s3.us-west-2.amazonaws.com/", "b", west, "us-west-2", true);
        check("b.s3.us-west-2.amazonaws.com", "b", west, "us-west-2", true);
        check("https://b.s3-us-west-2.amazonaws.com", "b", west, "us-west-2", true);
        check("https://s3.us-west-2.amazonaws.com/b", "b", west, "us-west-2", true);
        check("https://b.s3.dualstack.us-west-2.amazonaws.com", "b", west, "us-west-2", true);
        check("https://my.dots.s3.us-west-2.amazonaws.com", "my.dots", west, "us-west-2", false);
        let east = "https://s3.us-east-1.amazonaws.com";
        check("https://b.s3.amazonaws.com", "b", east, "us-east-1", true);
        check("https://s3.amazonaws.com/b", "b", east, "us-east-1", true);
        check("mybucket", "mybucket", east, "us-east-1", true);
        check("s3://mybucket", "mybucket", east, "us-east-1", true);
        check("s3://mybucket/", "mybucket", east, "us-east-1", true);
        let china = "https://s3.cn-north-1.amazonaws.com.cn";
        check("https://b.s3.cn-north-1.amazonaws.com.cn", "b", china, "cn-north-1", true);
        let vpce = "https://vpce-0a-1b.s3.us-east-2.vpce.amazonaws.com";
        check("https://b.vpce-0a-1b.s3.us-east-2.vpce.amazonaws.com", "b", vpce, "us-east-2", false);
    }

    #[test]
    fn other_endpoints() {
        check("http://127.0.0.1:9000/b", "b", "http://127.0.0.1:9000", "us-east-1", false);
        check("http://127.0.0.1:9000/b/", "b", "http://127.0.0.1:9000", "us-east-1", false);
        check("http://127.0.0.1:9000/b/ignored", "b", "http://127.0.0.1:9000", "us-east-1", false);
        check("127.0.0.1:9000/b", "b", "http://127.0.0.1:9000", "us-east-1", false);
        check("http://[::1]:9000/b", "b", "http://[::1]:9000", "us-east-1", false);
        check("https://minio.example.com/b", "b", "https://minio.example.com", "us-east-1", false);
        check("https://b.minio.example.com:9000", "b", "https://minio.example.com:9000", "us-east-1", false);
        let ovh = "https://s3.gra.cloud.ovh.net";
        check("https://b.s3.gra.cloud.ovh.net", "b", ovh, "gra", false);
        let oracle = "https://ns.compat.objectstorage.us-ashburn-1.oraclecloud.com";
        check("https://b.ns.compat.objectstorage.us-ashburn-1.oraclecloud.com", "b", oracle, "us-ashburn-1", false);
    }

    #[test]
    fn the_environment_names_a_region_only_where_the_url_does_not() {
        let env = |name: &str| match name {
            "AWS_REGION" => Some(String::new()),
            "AWS_DEFAULT_REGION" => Some("eu-west-3".to_owned()),
            _ => None,
        };
        assert_eq!(parse("http://127.0.0.1:9000/b", &env).unwrap().region, "eu-west-3");
        assert_eq!(parse("https://b.s3.us-west-2.amazonaws.com", &env).unwrap().region, "us-west-2");
        let bare = parse("b", &env).unwrap();
        assert_eq!((bare.region.as_str(), bare.endpoint.as_str()), ("eu-west-3", "https://s3.eu-west-3.amazonaws.com"));
    }

    #[test]
    fn the_style_variable_of_juicefs_turns_other_endpoints_to_virtual_hosts() {
        for (value, virtual_host) in [("1", true), ("true", true), ("0", false), ("false", false), ("", false)] {
            let env = move |name: &str| (name == "JFS_S3_VHOST_STYLE").then(|| value.to_owned());
            assert_eq!(parse("http://minio.local/b", &env).unwrap().virtual_host, virtual_host, "{value:?}");
        }
    }

    #[test]
    fn query_parameters_are_read_and_dropped() {
        let target = parse("http://127.0.0.1:9000/b?disable-checksum=true", &none).unwrap();
        assert!(target.without_checksum);
        assert_eq!((target.bucket.as_str(), target.endpoint.as_str()), ("b", "http://127.0.0.1:9000"));
    }

    #[test]
    fn urls_without_a_bucket_are_refused_with_the_right_form() {
        for url in ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]/", "https://s3.amazonaws.com"] {
            assert!(parse(url, &none).unwrap_err().contains("/BUCKET"), "{url}");
        }
        for url in ["", "ftp://a/b", "https://", "s3://b/prefix"] {
            assert!(parse(url, &none).is_err(), "{url}");
        }
    }
}
