//! `shoal cert`: the certificates of a group.

use std::path::PathBuf;

use clap::Subcommand;
use shoal_net::{Role, ca};

/// Flags of `cert`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the certificate authority of a group: ca.pem and ca-key.pem; keep the key off the nodes
    Init {
        /// Directory of the authority
        #[arg(value_name = "CA-DIR")]
        dir: PathBuf,
        /// Name of the group
        #[arg(long, default_value = "default")]
        group: String,
        /// Replace an authority that is there; its certificates are void then
        #[arg(long)]
        force: bool,
    },
    /// Make a cache node's certificate: ca.pem, cert.pem and key.pem
    Node(Issue),
    /// Make a client's certificate: ca.pem, cert.pem and key.pem
    Client(Issue),
    /// Show what certificates in a file or directory say
    Show {
        /// A .pem file or a directory
        path: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Issue {
    /// Directory for the certificate; what nodes and mounts take as --certs
    #[arg(value_name = "OUT-DIR")]
    out: PathBuf,
    /// Directory of the authority
    #[arg(long, value_name = "CA-DIR")]
    ca: PathBuf,
    /// Name of the node or client in the certificate
    #[arg(long)]
    name: String,
    /// Days the certificate is valid
    #[arg(long, default_value_t = 365)]
    days: u32,
    /// Replace a certificate that is there; what runs with it takes the new one into use within a minute, a node at once on SIGHUP
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Init { dir, group, force } => {
            ca::init(&dir, &group, force)?;
            println!("authority of group `{group}` is in {}; keep ca-key.pem there and safe", dir.display());
        }
        Command::Node(issue) => run_issue(Role::Node, &issue)?,
        Command::Client(issue) => run_issue(Role::Client, &issue)?,
        Command::Show { path } => {
            for certificate in ca::show(&path)? {
                print!("{}", describe(&certificate));
            }
        }
    }
    Ok(())
}

fn run_issue(role: Role, issue: &Issue) -> anyhow::Result<()> {
    match issue.force {
        true => ca::renew(&issue.ca, role, &issue.name, &issue.out, issue.days)?,
        false => ca::issue(&issue.ca, role, &issue.name, &issue.out, issue.days)?,
    }
    println!("certificate `{}` is in {}", issue.name, issue.out.display());
    Ok(())
}

fn describe(certificate: &ca::CertInfo) -> String {
    let who = match &certificate.identity {
        Some(identity) => format!("{} `{}` of group `{}`", identity.role, identity.name, identity.group),
        None => format!("authority of group `{}`", certificate.group),
    };
    let left = match certificate.days_left {
        days if days < 0 => "expired".to_owned(),
        days => format!("{days} days left"),
    };
    let (from, until) = (&certificate.valid_from, &certificate.valid_until);
    format!("{who}\n  valid {from} to {until} ({left})\n  sha256 {}\n", certificate.fingerprint)
}
