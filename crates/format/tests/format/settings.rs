//! Settings as `format` makes them and as old volumes have them.

use shoal_format::{Settings, round_block_size};

#[test]
fn a_new_setting_is_what_format_makes() {
    let golden = include_str!("../golden/setting_default.json");
    let made = Settings::parse(golden).unwrap();
    let ours = Settings { bucket: made.bucket.clone(), ..Settings::new(&made.name, &made.uuid) };
    assert_eq!(ours.to_json(), golden);
    assert_eq!(ours, made);
    assert_eq!(ours.block_size, round_block_size(4 << 20));
}

#[test]
fn every_field_reads_back() {
    let settings = Settings::parse(include_str!("../golden/setting_all.json")).unwrap();
    assert_eq!(settings.access_key, "A<&>");
    assert_eq!(settings.kerb_conf, "k<&>\u{2028}\u{1}\u{8}\u{c}\n\t\"\\/é\u{7f}");
    assert_eq!((settings.capacity, settings.inodes), (1 << 40, 100));
    assert_eq!((settings.upload_limit, settings.download_limit), (8, 7));
    assert_eq!((settings.change_log, settings.change_log_max_age, settings.change_log_max_lines), (true, 7200, 5));
    assert_eq!((settings.tiers[&3].storage_class.as_str(), settings.tiers[&3].tag.as_str()), ("GLACIER", "a=b"));
    assert!(settings.enable_acl && settings.user_group_quota && settings.dir_stats && settings.hash_prefix);
    assert_eq!(settings.layout().block_size, 1 << 20);
    assert!(settings.extra.is_empty());
}

#[test]
fn a_volume_older_than_tiers_reads() {
    // Rewritten by the real client from a setting without Tiers, EncryptAlgo, DirStats and EnableACL.
    let golden = include_str!("../golden/setting_old.json");
    let settings = Settings::parse(golden).unwrap();
    assert!(!settings.dir_stats && settings.encrypt_algo.is_empty());
    assert_eq!(settings.to_json(), golden);
    let mut map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(golden).unwrap();
    map.remove("Tiers");
    let older = Settings::parse(&serde_json::to_string(&map).unwrap()).unwrap();
    assert_eq!(older.to_json(), golden);
}
