//! How values look in a dump, to the byte.

use shoal_format::{AclEntry, AclRule, Attr, FileType, Ino, SliceRecord, Time};

use crate::record::Xattr;

/// Bytes as text: those that JSON or UTF-8 cannot hold, blanks and `%` become `%XX`.
pub(super) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for part in bytes.utf8_chunks() {
        for byte in part.valid().bytes() {
            match byte {
                0..=b' ' | b'%' | b'"' | b'\\' => hex(byte, out),
                byte => out.push(byte),
            }
        }
        part.invalid().iter().for_each(|byte| hex(*byte, out));
    }
}

fn hex(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("%{byte:02X}").as_bytes());
}

/// A JSON string as Go writes it.
pub(super) fn quoted(text: &str) -> String {
    go_escapes(serde_json::Value::from(text).to_string())
}

/// Go escapes these five in strings; outside strings none of them occurs in JSON.
pub(super) fn go_escapes(json: String) -> String {
    let escapes =
        [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
    let found = |text: &String, from: char| text.contains(from);
    escapes.into_iter().fold(json, |text, (from, to)| if found(&text, from) { text.replace(from, to) } else { text })
}

/// Name of a type of inode.
pub(super) fn kind(kind: FileType) -> &'static str {
    match kind {
        FileType::Regular => "regular",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::BlockDevice => "blockdev",
        FileType::CharDevice => "chardev",
        FileType::Socket => "socket",
    }
}

/// An attribute. Only regular files have their length written: that of others follows from what they are.
pub(super) fn attr(ino: Ino, attr: &Attr) -> String {
    let mut text = format!("{{\"inode\":{ino}");
    if attr.flags != 0 {
        text += &format!(",\"flags\":{}", attr.flags);
    }
    text += &format!(
        ",\"type\":\"{}\",\"mode\":{},\"uid\":{},\"gid\":{},\"atime\":{},\"mtime\":{},\"ctime\":{}",
        kind(attr.kind),
        attr.mode,
        attr.uid,
        attr.gid,
        attr.atime.secs,
        attr.mtime.secs,
        attr.ctime.secs
    );
    let mut nanos = |name: &str, time: Time| {
        if time.nanos != 0 {
            text += &format!(",\"{name}\":{}", time.nanos);
        }
    };
    nanos("atimensec", attr.atime);
    nanos("mtimensec", attr.mtime);
    nanos("ctimensec", attr.ctime);
    let length = if attr.kind == FileType::Regular { attr.length } else { 0 };
    text += &format!(",\"nlink\":{},\"length\":{length}", attr.nlink);
    if attr.rdev != 0 {
        text += &format!(",\"rdev\":{}", attr.rdev);
    }
    if attr.tier != 0 {
        text += &format!(",\"tier\":{}", attr.tier);
    }
    text + "}"
}

/// Extended attributes of one inode. Values are escaped twice, names once, as real clients do.
pub(super) fn xattrs(xattrs: &[Xattr]) -> String {
    let one = |xattr: &Xattr| {
        let mut value = Vec::new();
        escape(&xattr.value, &mut value);
        let (name, value) = (String::from_utf8_lossy(&xattr.name), String::from_utf8_lossy(&value));
        format!("{{\"name\":{},\"value\":{}}}", quoted(&name), quoted(&value))
    };
    format!("[{}]", xattrs.iter().map(one).collect::<Vec<_>>().join(","))
}

/// An ACL rule.
pub(super) fn acl(rule: &AclRule) -> String {
    let perm = |perm: Option<u16>| perm.unwrap_or(0xFFFF);
    let named = |entries: &[AclEntry]| match entries {
        [] => "null".to_owned(),
        entries => {
            let one = |entry: &AclEntry| format!("{{\"id\":{},\"perm\":{}}}", entry.id, entry.perm);
            format!("[{}]", entries.iter().map(one).collect::<Vec<_>>().join(","))
        }
    };
    format!(
        "{{\"owner\":{},\"group\":{},\"other\":{},\"mask\":{},\"users\":{},\"groups\":{}}}",
        perm(rule.owner),
        perm(rule.group),
        perm(rule.other),
        perm(rule.mask),
        named(&rule.named_users),
        named(&rule.named_groups)
    )
}

/// A chunk's list.
pub(super) fn chunk(index: u32, slices: &[SliceRecord]) -> String {
    let one = |slice: &SliceRecord| {
        let part = |name: &str, value: u32| if value == 0 { String::new() } else { format!("\"{name}\":{value},") };
        let (pos, off) = (part("pos", slice.pos), part("off", slice.off));
        format!("{{\"id\":{},{pos}\"size\":{},{off}\"len\":{}}}", slice.id, slice.size, slice.len)
    };
    format!("{{\"index\":{index},\"slices\":[{}]}}", slices.iter().map(one).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        escape(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// As seen in a dump of JuiceFS 1.4.2.
    #[test]
    fn names_are_escaped_as_real_clients_escape_them() {
        assert_eq!(escaped(b"\xff%\"\\\x01 <>&\xe4\xbd\xa0"), "%FF%25%22%5C%01%20<>&你");
        assert_eq!(escaped(b"\t\n\r"), "%09%0A%0D");
        assert_eq!(escaped(b"\xe4\xbd"), "%E4%BD");
        assert_eq!(escaped(b"\xed\xa0\x80"), "%ED%A0%80");
        assert_eq!(escaped("\u{7f}\u{80}\u{2028}😀".as_bytes()), "\u{7f}\u{80}\u{2028}😀");
        let xattr =
            |name: &'static str, value: &'static [u8]| Xattr { ino: Ino(1), name: name.into(), value: value.into() };
        let seen = "[{\"name\":\"user. x%\\\"\\u0026\",\"value\":\"\\u003ca\\u003e%20b\"},{\"name\":\"b\",\"value\":\"v%00%01%FF%22%25\"}]";
        assert_eq!(xattrs(&[xattr("user. x%\"&", b"<a> b"), xattr("b", b"v\0\x01\xff\"%")]), seen);
    }

    #[test]
    fn zeros_are_left_out_where_real_clients_leave_them_out() {
        let time = Time { secs: -2, nanos: 500_000_000 };
        let file = Attr { flags: 5, tier: 2, length: 9, ..Attr::new(FileType::Regular, 0o674, Ino(7), time) };
        let text = "{\"inode\":4,\"flags\":5,\"type\":\"regular\",\"mode\":444,\"uid\":0,\"gid\":0,\"atime\":-2,\"mtime\":-2,\"ctime\":-2,\
                    \"atimensec\":500000000,\"mtimensec\":500000000,\"ctimensec\":500000000,\"nlink\":1,\"length\":9,\"tier\":2}";
        assert_eq!(attr(Ino(4), &file), text);
        let whole = Time { secs: 3, nanos: 0 };
        let device = Attr { rdev: 259, ..Attr::new(FileType::CharDevice, 0o644, Ino(7), whole) };
        assert!(attr(Ino(8), &device).ends_with("\"ctime\":3,\"nlink\":1,\"length\":0,\"rdev\":259}"));
        let list = [SliceRecord::hole(0, 67_108_864), SliceRecord { pos: 3, id: 4, size: 3, off: 1, len: 2 }];
        let seen = "{\"index\":0,\"slices\":[{\"id\":0,\"size\":0,\"len\":67108864},{\"id\":4,\"pos\":3,\"size\":3,\"off\":1,\"len\":2}]}";
        assert_eq!(chunk(0, &list), seen);
        let rule = AclRule { owner: Some(6), named_users: vec![AclEntry { id: 1000, perm: 7 }], ..AclRule::default() };
        let seen = "{\"owner\":6,\"group\":65535,\"other\":65535,\"mask\":65535,\"users\":[{\"id\":1000,\"perm\":7}],\"groups\":null}";
        assert_eq!(acl(&rule), seen);
    }
}
