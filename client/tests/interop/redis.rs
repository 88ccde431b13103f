//! The same with metadata in Redis: a workload of each kind, with both clients on one volume.

use super::import::load_and_look;
use super::names::compare_histories;
use super::pair::Pair;
use super::removal::restore_both_ways;
use super::tree::Everything;
use super::writing::{PLAIN, take_turns, write_and_read};
use crate::rig::EngineKind;

#[test]
fn names_and_attributes_on_redis_are_those_of_juicefs() {
    let Some(pair) = Pair::on(EngineKind::Redis, "redis-names") else { return };
    compare_histories(&pair, 1);
}

#[test]
fn what_is_removed_on_redis_is_restored_by_either() {
    let Some(pair) = Pair::on(EngineKind::Redis, "redis-removal") else { return };
    restore_both_ways(&pair);
}

#[test]
fn what_is_written_on_redis_is_read_by_juicefs() {
    let Some(pair) = Pair::on(EngineKind::Redis, "redis-writing") else { return };
    write_and_read(&pair, PLAIN);
}

#[test]
fn both_write_one_file_on_redis() {
    let Some(pair) = Pair::on(EngineKind::Redis, "redis-turns") else { return };
    take_turns(&pair);
}

#[test]
fn what_is_imported_to_redis_is_sound_to_juicefs() {
    let Some(pair) = Pair::on(EngineKind::Redis, "redis-import") else { return };
    load_and_look(&pair, PLAIN, &Everything { files: 200, ..Everything::new(31) });
}
