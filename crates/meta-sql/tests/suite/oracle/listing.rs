//! A volume as `juicefs dump` prints it (spec section 27.1), made from our own reads: the two must be equal.

use serde_json::{Map, Value, json};
use shoal_format::{Attr, FileType, Ino};
use shoal_meta::Meta;

/// The tree below `ino`, its own attributes included.
pub async fn tree(meta: &Meta, ino: Ino, attr: &Attr) -> Value {
    let mut node = Map::new();
    node.insert("attr".into(), attr_json(ino, attr));
    match attr.kind {
        FileType::Directory => {
            let mut entries = Map::new();
            for entry in meta.readdir(ino).await.expect("a listing") {
                let child = entry.attr.expect("attributes");
                assert_eq!(child.kind, entry.kind);
                let looked_up = meta.lookup(ino, &entry.name).await.expect("a lookup");
                assert_eq!(looked_up, Some((entry.ino, child.clone())));
                entries.insert(name_json(&entry.name), Box::pin(tree(meta, entry.ino, &child)).await);
            }
            node.insert("entries".into(), entries.into());
        }
        FileType::Symlink => {
            let target = meta.readlink(ino).await.expect("a target").expect("a target");
            node.insert("symlink".into(), name_json(&target).into());
        }
        FileType::Regular => {
            let chunks = meta.chunks(ino, 0..u32::MAX).await.expect("chunks");
            let chunks: Vec<Value> = chunks.iter().map(|chunk| json!({ "index": chunk.index, "slices": chunk.slices.iter().map(slice_json).collect::<Vec<_>>() })).collect();
            if !chunks.is_empty() {
                node.insert("chunks".into(), chunks.into());
            }
        }
        _ => {}
    }
    let mut xattrs = Vec::new();
    for name in meta.listxattr(ino).await.expect("names") {
        let value = meta.getxattr(ino, &name).await.expect("a value").expect("a value");
        xattrs.push(json!({ "name": String::from_utf8_lossy(&name), "value": String::from_utf8_lossy(&value) }));
    }
    if !xattrs.is_empty() {
        node.insert("xattrs".into(), xattrs.into());
    }
    node.into()
}

/// A dumped tree with its lists of extended attributes in the order of their names, as ours are.
pub fn sorted(mut node: Value) -> Value {
    if let Some(xattrs) = node.get_mut("xattrs").and_then(Value::as_array_mut) {
        xattrs.sort_by_key(|xattr| xattr["name"].to_string());
    }
    if let Some(entries) = node.get_mut("entries").and_then(Value::as_object_mut) {
        entries.values_mut().for_each(|child| *child = sorted(child.take()));
    }
    node
}

fn attr_json(ino: Ino, attr: &Attr) -> Value {
    let kind = match attr.kind {
        FileType::Regular => "regular",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::BlockDevice => "blockdev",
        FileType::CharDevice => "chardev",
        FileType::Socket => "socket",
    };
    let length = if attr.kind == FileType::Regular { attr.length } else { 0 };
    let mut json = json!({
        "inode": ino.0, "type": kind, "mode": attr.mode, "uid": attr.uid, "gid": attr.gid,
        "atime": attr.atime.secs, "mtime": attr.mtime.secs, "ctime": attr.ctime.secs,
        "nlink": attr.nlink, "length": length,
    });
    let optional = [
        ("flags", u32::from(attr.flags)),
        ("atimensec", attr.atime.nanos),
        ("mtimensec", attr.mtime.nanos),
        ("ctimensec", attr.ctime.nanos),
        ("rdev", attr.rdev),
        ("tier", u32::from(attr.tier)),
    ];
    let object = json.as_object_mut().expect("an object");
    object.extend(
        optional.into_iter().filter(|(_, value)| *value != 0).map(|(key, value)| (key.to_owned(), value.into())),
    );
    json
}

fn slice_json(slice: &shoal_format::SliceRecord) -> Value {
    let fields = [
        ("id", slice.id),
        ("pos", slice.pos.into()),
        ("size", slice.size.into()),
        ("off", slice.off.into()),
        ("len", slice.len.into()),
    ];
    let kept = fields.into_iter().filter(|(key, value)| *value != 0 || !matches!(*key, "pos" | "off"));
    kept.map(|(key, value)| (key.to_owned(), Value::from(value))).collect::<Map<_, _>>().into()
}

/// Bytes as a dump spells them.
fn name_json(name: &[u8]) -> String {
    let mut out = String::new();
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\0'..=' ' | '%' | '"' | '\\' => out.push_str(&format!("%{:02X}", c as u32)),
                _ => out.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("%{byte:02X}")));
    }
    out
}
