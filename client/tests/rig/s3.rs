//! An S3 server for one test: `rclone serve s3` over a directory of the rig.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use shoal_testkit::{ChildGuard, PATIENCE, free_port, have_command, skipped, wait_until};

use super::Rig;

/// Access and secret key of every server here.
pub const KEYS: (&str, &str) = ("shoal-key", "shoal-secret");

/// Free ports tried before giving up: another program may take one between the look and the start.
const PORTS_TRIED: usize = 20;

/// A running server.
pub struct S3Server {
    pub process: ChildGuard,
    /// Each bucket is a directory in it.
    pub dir: PathBuf,
    address: String,
}

/// `SHOAL_RCLONE`, the one in `.venv`, or the one in the PATH. `None`, and a loud word, without any.
fn binary() -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/rclone");
    let path = std::env::var_os("SHOAL_RCLONE").map_or(venv, PathBuf::from);
    if path.is_file() {
        return Some(path);
    }
    if have_command("rclone") {
        return Some(PathBuf::from("rclone"));
    }
    skipped("rclone is not installed: scripts/install-deps --test");
    None
}

impl Rig {
    /// Starts a server whose buckets are directories in the rig's directory `name`.
    pub fn start_s3(&self, name: &str) -> Option<S3Server> {
        let binary = binary()?;
        let dir = self.mkdir(name);
        for _ in 0..PORTS_TRIED {
            // rclone does not tell the port it got, so a free one is looked for.
            let address = format!("127.0.0.1:{}", free_port());
            let mut command = Command::new(&binary);
            command.args(["serve", "s3", "--addr", &address, "--config", ""]);
            command.args(["--auth-key", &format!("{},{}", KEYS.0, KEYS.1)]).arg(&dir).env_remove("RCLONE_CONFIG");
            let mut process = ChildGuard::spawn(name, &mut command);
            let mut up = false;
            wait_until("rclone serves or ends", PATIENCE, || {
                up = TcpStream::connect(&address).is_ok();
                up || !process.is_running()
            });
            if up && process.is_running() {
                return Some(S3Server { process, dir, address });
            }
        }
        panic!("rclone found no free port in {PORTS_TRIED} attempts");
    }
}

impl S3Server {
    /// URL of bucket `name`, which is made if it is missing.
    pub fn bucket(&self, name: &str) -> String {
        std::fs::create_dir_all(self.dir.join(name)).expect("a directory for the bucket");
        format!("http://{}/{name}", self.address)
    }
}
