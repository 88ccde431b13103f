//! Options that several commands take.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use shoal_volume::RingOptions;

/// How to reach a ring.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RingArgs {
    /// Group of the ring; must be the certificate's [default: the certificate's]
    #[arg(long)]
    pub group: Option<String>,
    /// Cache nodes to learn the ring from; any of them that answers is enough
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    pub join: Vec<String>,
    /// Directory with ca.pem, cert.pem and key.pem, as `shoal cert client` makes it
    #[arg(long, value_name = "DIR")]
    pub certs: Option<PathBuf>,
    /// Seconds to wait for the first node of the ring to answer
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub join_timeout: u64,
}

/// What a command is about: paths in a mount, or in a volume and ring named by flags.
#[derive(Debug, Clone, Args)]
pub(crate) struct TargetArgs {
    /// Files and directories in a mount, or in the volume with --meta
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Metadata URL of the volume, when it is not mounted here
    #[arg(long, value_name = "META-URL")]
    pub meta: Option<String>,
    #[command(flatten)]
    pub ring: RingArgs,
}

impl RingArgs {
    /// The ring these flags name; `None` if they name none.
    pub(crate) fn ring(&self) -> anyhow::Result<Option<RingOptions>> {
        if self.join.is_empty() {
            ensure!(self.group.is_none(), "--group needs --join HOST:PORT,... to find the group's nodes");
            return Ok(None);
        }
        let Some(certs) = &self.certs else {
            anyhow::bail!("--join needs --certs DIR with a client certificate; make one with `shoal cert client`");
        };
        for seed in &self.join {
            let valid =
                seed.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            ensure!(valid, "--join `{seed}` is not HOST:PORT");
        }
        Ok(Some(RingOptions {
            group: self.group.clone(),
            seeds: self.join.clone(),
            certs: certs.clone(),
            patience: Duration::from_secs(self.join_timeout.max(1)),
        }))
    }
}
