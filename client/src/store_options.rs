//! Flags of `mount` about the object store: where it is from here, and how it is used.

use shoal_object::ObjectOptions;
use shoal_volume::BYTES_PER_S_OF_MBPS;

use crate::options::Period;

/// Names and defaults are JuiceFS's.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StoreArgs {
    /// Reach the volume's objects here, such as by an endpoint of the cloud's own network [default: the volume's setting]
    #[arg(long, value_name = "BUCKET")]
    bucket: Option<String>,
    /// Longest wait for the answer to one GET, HEAD, DELETE or LIST
    #[arg(long, default_value = "60s", value_name = "TIME")]
    get_timeout: Period,
    /// Longest time of one PUT
    #[arg(long, default_value = "60s", value_name = "TIME")]
    put_timeout: Period,
    /// Further attempts after one that failed for a reason that may pass
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1000))]
    io_retries: u32,
    /// Requests for objects in flight at once
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max_downloads: u32,
    /// Most megabits a second sent to the object store, 0 for as many as the volume's setting says
    #[arg(long, default_value_t = 0, value_name = "MBPS")]
    upload_limit: u32,
    /// Most megabits a second received from the object store, 0 for as many as the volume's setting says
    #[arg(long, default_value_t = 0, value_name = "MBPS")]
    download_limit: u32,
}

impl StoreArgs {
    /// Where the objects are, if not where the volume says.
    pub(crate) fn bucket(&self) -> Option<String> {
        self.bucket.clone()
    }

    /// How the object store is used.
    pub(crate) fn options(&self) -> ObjectOptions {
        ObjectOptions {
            get_timeout: self.get_timeout.0,
            put_timeout: self.put_timeout.0,
            retries: self.io_retries,
            max_concurrent: self.max_downloads as usize,
            upload_bytes_per_s: u64::from(self.upload_limit) * BYTES_PER_S_OF_MBPS,
            download_bytes_per_s: u64::from(self.download_limit) * BYTES_PER_S_OF_MBPS,
            ..ObjectOptions::default()
        }
    }
}
