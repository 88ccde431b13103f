//! What a client says about itself in its session record (spec section 13).

use serde::{Deserialize, Serialize};

use crate::attr::Time;
use crate::calendar::rfc3339;

/// A client, for people who ask who uses the volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SessionInfo {
    /// Name and version of the program.
    pub version: String,
    /// Its host.
    pub host_name: String,
    /// The host's addresses.
    #[serde(rename = "IPAddrs", skip_serializing_if = "Vec::is_empty")]
    pub ip_addrs: Vec<String>,
    /// Where the volume is mounted, or what else it is used by.
    pub mount_point: String,
    /// Since when, by RFC 3339: see [`SessionInfo::at`].
    pub mount_time: String,
    /// Process of the client on its host.
    #[serde(rename = "ProcessID")]
    pub process_id: i64,
}

impl SessionInfo {
    /// The same client, mounted at `time`.
    pub fn at(self, time: Time) -> SessionInfo {
        SessionInfo { mount_time: rfc3339(time), ..self }
    }

    /// The record's JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are valid JSON")
    }

    /// Reads a record; `None` if it is none. Fields it lacks are empty.
    pub fn parse(json: &[u8]) -> Option<SessionInfo> {
        serde_json::from_slice(json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_as_real_clients_write_it() {
        let info = SessionInfo {
            version: "1.4.2".into(),
            host_name: "host".into(),
            ip_addrs: vec!["192.0.2.7".into()],
            mount_point: "/mnt".into(),
            process_id: 42,
            ..SessionInfo::default()
        };
        let info = info.at(Time { secs: 0, nanos: 5_000_000 });
        let json = "{\"Version\":\"1.4.2\",\"HostName\":\"host\",\"IPAddrs\":[\"192.0.2.7\"],\"MountPoint\":\"/mnt\",\
                    \"MountTime\":\"1970-01-01T00:00:00.005Z\",\"ProcessID\":42}";
        assert_eq!(info.to_json(), json);
        assert_eq!(SessionInfo::parse(json.as_bytes()), Some(info));
        assert!(!SessionInfo::default().to_json().contains("IPAddrs"));
        assert_eq!(SessionInfo::parse(b"{\"HostName\":\"h\",\"New\":1}").map(|info| info.host_name), Some("h".into()));
        assert_eq!(SessionInfo::parse(b"\xff"), None);
    }
}
