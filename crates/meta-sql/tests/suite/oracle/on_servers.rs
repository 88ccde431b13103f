//! The same on PostgreSQL and MariaDB: what one client makes, the other reads, checks and changes.

use shoal_format::{Ino, Settings};
use shoal_meta::Meta;
use shoal_meta::testing::sample::settings;
use shoal_meta_sql::{OpenMode, open};
use shoal_testkit::{SqlKind, SqlServer};

use super::super::bed::Bed;
use super::client::{JuiceFs, bucket};
use super::from_juicefs::{assert_dumped, odd_tree};
use super::to_juicefs::{fill, put_object};

/// Columns and indexes of the tables of a volume, without their prefix.
fn schema(server: &SqlServer, url: &str) -> Vec<String> {
    let prefix = format!("jfs_{}_", url.rsplit_once("table_prefix=").expect("a prefix").1);
    let queries = match server.kind {
        SqlKind::Postgres => [
            "SELECT concat_ws(' ',table_name,column_name,data_type,character_maximum_length,is_nullable,column_default) FROM \
             information_schema.columns WHERE table_schema='public' ORDER BY 1",
            "SELECT indexdef FROM pg_indexes WHERE schemaname='public' ORDER BY 1",
        ],
        SqlKind::MariaDb => [
            "SELECT CONCAT_WS(' ',table_name,column_name,column_type,is_nullable,column_default,column_key,extra) FROM \
             information_schema.columns WHERE table_schema='vol' ORDER BY 1",
            "SELECT CONCAT_WS(' ',table_name,index_name,non_unique,seq_in_index,column_name) FROM \
             information_schema.statistics WHERE table_schema='vol' ORDER BY 1",
        ],
    };
    let mut all = Vec::new();
    for query in queries {
        let rows = server.tell(&[query]);
        all.extend(rows.into_iter().filter(|row| row.contains(&prefix)).map(|row| row.replace(&prefix, "@")));
    }
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_of_juicefs_on_servers_read_the_same_and_ours_have_its_schema() {
    let test = "volumes_of_juicefs_on_servers_read_the_same";
    let Some(juicefs) = JuiceFs::find(test) else { return };
    for kind in SqlKind::ALL {
        let Some(server) = SqlServer::shared(kind) else { continue };
        let bed = Bed::new();
        // `load` wants a database without any other table.
        let (theirs, loaded, ours) = (server.fresh_tables(), server.fresh_url(), server.fresh_tables());
        juicefs.run(&bed, &["format", &theirs, "loaded", "--storage", "file", "--bucket", &bucket(&bed)]);
        let setting = juicefs.dump_of(&bed, &theirs)["Setting"].take();
        // Its columns for owners hold 31 bits there.
        std::fs::write(bed.path("odd.json"), odd_tree(setting, 2_000_000_000).to_string()).unwrap();
        juicefs.run(&bed, &["load", &loaded, "odd.json"]);
        let meta = Meta::new(open(&loaded, OpenMode::ReadOnly).await.unwrap());
        assert_dumped(juicefs.dump_of(&bed, &loaded), &meta).await;
        assert_eq!(meta.resolve_path(b"/.trash/2026-11-27-03/1-20-gone").await.unwrap().unwrap().0, Ino(20));

        Meta::new(open(&ours, OpenMode::Create).await.unwrap()).init(&settings(), false).await.unwrap();
        let (ours, theirs) = (schema(server, &ours), schema(server, &theirs));
        assert!(ours.len() > 90, "{ours:?}");
        assert_eq!(ours, theirs, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_made_by_us_on_servers_pass_every_check_of_juicefs() {
    let test = "volumes_made_by_us_on_servers_pass_every_check";
    let Some(juicefs) = JuiceFs::find(test) else { return };
    for kind in SqlKind::ALL {
        let Some(server) = SqlServer::shared(kind) else { continue };
        let bed = Bed::new();
        let url = server.fresh_tables();
        let meta = Meta::new(open(&url, OpenMode::Create).await.unwrap());
        let settings = Settings { bucket: bucket(&bed), ..settings() };
        meta.init(&settings, false).await.unwrap();
        put_object(&bed, "juicefs_uuid", settings.uuid.as_bytes());
        fill(&bed, &meta).await;
        assert_dumped(juicefs.dump_of(&bed, &url), &meta).await;
        juicefs.run(&bed, &["fsck", &url]);
        // On PostgreSQL version 1.4.2 fails to write a directory's statistics where it has some: it goes on in a transaction that is aborted.
        let sync: &[&str] = if kind == SqlKind::Postgres { &[] } else { &["--sync-dir-stat", "--repair"] };
        let report = juicefs.run(&bed, &[&["fsck", &url, "--path", "/", "--recursive"][..], sync].concat());
        assert!(!report.contains("should be"), "{report}");
        let gc = juicefs.run(&bed, &["gc", &url, "--delete"]);
        assert!(gc.contains("0 leaked"), "{gc}");
        assert_dumped(juicefs.dump_of(&bed, &url), &meta).await;
    }
}
