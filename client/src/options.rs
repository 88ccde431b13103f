//! Options that several commands take.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use shoal_cluster::Seed;
use shoal_volume::RingOptions;

/// A length of time as people write it: `1s`, `500ms`, `1.5m`, `1h`; a bare number is seconds, as in JuiceFS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Period(pub Duration);

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Period, String> {
        let bad = || format!("`{text}` is no length of time; write it as 1s, 500ms, 2m or 1h");
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let seconds = match unit {
            "" | "s" => 1.0,
            "us" => 1e-6,
            "ms" => 1e-3,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(bad()),
        };
        let number: f64 = number.parse().map_err(|_| bad())?;
        Duration::try_from_secs_f64(number * seconds).map(Period).map_err(|_| bad())
    }
}

/// How to reach a ring.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RingArgs {
    /// Group of the ring; must be the certificate's [default: the certificate's]
    #[arg(long)]
    pub group: Option<String>,
    /// Cache nodes to learn the ring from, any of them that answers is enough: HOST:PORT; file:PATH, a file with a HOST:PORT in each line;
    /// dns:NAME[:PORT], every address of a name, such as a headless Kubernetes service
    #[arg(long, value_name = "SEED,...", value_delimiter = ',')]
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
    /// Where nodes are, for a process in any directory. Errors: one of them is no seed.
    pub(crate) fn seeds(&self) -> anyhow::Result<Vec<String>> {
        let absolute = |seed: &String| {
            Ok(match seed.parse::<Seed>().context("--join")? {
                Seed::File(path) => Seed::File(std::path::absolute(path)?).to_string(),
                Seed::Host(_) | Seed::Dns(_) => seed.clone(),
            })
        };
        self.join.iter().map(absolute).collect()
    }

    /// The ring these flags name; `None` if they name none.
    pub(crate) fn ring(&self) -> anyhow::Result<Option<RingOptions>> {
        if self.join.is_empty() {
            ensure!(self.group.is_none(), "--group needs --join HOST:PORT,... to find the group's nodes");
            return Ok(None);
        }
        let Some(certs) = &self.certs else {
            anyhow::bail!("--join needs --certs DIR with a client certificate; make one with `shoal cert client`");
        };
        Ok(Some(RingOptions {
            group: self.group.clone(),
            seeds: self.seeds()?,
            certs: certs.clone(),
            patience: Duration::from_secs(self.join_timeout.max(1)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_in_juicefs() {
        let millis = |text: &str| text.parse::<Period>().map(|period| period.0.as_millis());
        for (text, want) in [
            ("1.0s", 1000),
            ("0", 0),
            ("2.5", 2500),
            ("100ms", 100),
            ("1m", 60_000),
            ("2h", 7_200_000),
            ("1.5h", 5_400_000),
        ] {
            assert_eq!(millis(text), Ok(want), "{text}");
        }
        for text in ["", "s", "h", "-1", "-1s", "inf", "1d", "1 s", "1e400", "..", "99999999999999999999999h"] {
            assert!(millis(text).is_err(), "{text}");
        }
    }
}
