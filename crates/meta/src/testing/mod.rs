//! One suite for every engine: what the rules in `ops` need of record primitives, asked through [`Meta`] and [`Txn`].
//!
//! Each case gets a fresh database without a volume; a failed case panics with its name in the message.

mod acls;
mod attributes;
mod audit;
mod bulk;
mod changelog;
mod contents;
mod contents_model;
mod creating;
mod data;
mod dumping;
mod holding;
mod leftovers;
mod locks;
mod model;
mod namespace;
mod quotas;
mod refusals;
mod removing;
mod renaming;
pub mod sample;
mod scanning;
mod sessions;
mod transactions;
mod trees;

use std::pin::Pin;
use std::sync::Arc;

use shoal_format::Settings;

use crate::engine::Engine;
use crate::meta::Meta;
use crate::session::{HEARTBEAT, Session};

/// Runs every case on engines that `fresh` makes, one for each: empty databases, ready for [`Meta::init`].
///
/// Needs a tokio runtime of more than one thread only if the engine does.
pub async fn conformance<F, Fut>(fresh: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Engine>>,
{
    macro_rules! run {
        ($($case:path),* $(,)?) => {
            $(
                let engine = fresh().await;
                let case = Case { name: stringify!($case), meta: Meta::new(engine.clone()), engine };
                on_the_heap(|| $case(&case)).await;
                case.engine.close().await;
            )*
        };
    }
    run!(
        namespace::empty_database_holds_no_volume,
        namespace::new_volume_has_root_trash_and_counters,
        namespace::setting_survives_and_changes,
        namespace::second_init_needs_force_and_keeps_identity,
        namespace::tree_reads_back,
        namespace::attribute_names_that_are_no_text_are_kept_or_refused,
        namespace::names_are_bytes,
        namespace::reserved_names_resolve_without_dentries,
        namespace::dentry_without_attributes_is_listed_but_not_found,
        namespace::listing_pages_are_complete_and_ordered,
        namespace::paths_resolve_component_by_component,
        bulk::ids_are_disjoint_under_concurrency,
        bulk::import_accounts_space_inodes_and_directories,
        bulk::directories_of_an_import_keep_their_times_in_later_batches,
        bulk::hard_links_count_names_and_lose_their_parent,
        bulk::existing_file_gets_a_second_name,
        bulk::chunk_lists_and_references_are_stored,
        bulk::thousands_of_files_in_one_batch,
        bulk::unknown_directory_usage_is_counted_from_the_listing,
        bulk::mkdir_p_creates_what_is_missing_once,
        sessions::a_client_is_recorded_until_it_leaves,
        sessions::ids_are_taken_in_batches,
        sessions::a_heartbeat_brings_new_settings_and_a_lost_record_back,
        sessions::a_volume_that_asks_for_more_or_is_another_one_is_changed_no_more,
        sessions::limits_and_quotas_are_kept,
        creating::every_kind_of_inode_is_created_once,
        creating::group_and_flags_are_inherited,
        creating::creating_is_refused_where_the_rules_say_so,
        creating::use_is_accounted_by_every_creation,
        creating::clients_create_in_one_directory_at_once,
        attributes::a_second_name_is_counted_wherever_it_is,
        attributes::names_are_refused_where_the_rules_say_so,
        attributes::attributes_change_and_survive,
        attributes::reads_are_noted_as_the_mode_says,
        attributes::extended_attributes_are_created_replaced_and_removed,
        attributes::access_follows_the_mode,
        acls::rules_are_shared_and_show_in_the_mode,
        acls::a_changed_mode_changes_the_mask,
        acls::new_inodes_get_what_their_directorys_default_says,
        acls::acls_are_refused_where_the_rules_say_so,
        acls::access_follows_the_rule,
        model::random_histories_end_like_the_model,
        refusals::taken_name_is_named_and_nothing_is_written,
        refusals::taken_inode_and_slice_are_refused,
        refusals::ids_nobody_took_are_refused,
        refusals::missing_and_wrong_parents_are_refused,
        refusals::volume_limits_are_kept,
        refusals::volumes_that_oblige_writers_are_refused,
        leftovers::names_go_only_if_they_are_what_was_read,
        leftovers::records_beside_an_inode_go_with_it,
        leftovers::deleted_files_wait_oldest_first,
        leftovers::sessions_are_kept_until_removed,
        leftovers::serials_begin_at_one_and_never_repeat,
        leftovers::one_client_is_elected_in_a_period,
        leftovers::many_attributes_are_locked_in_one_call,
        leftovers::detached_trees_are_known_until_they_have_a_name,
        leftovers::a_dropped_volume_leaves_room_for_another,
        data::lists_are_replaced_only_where_they_begin_as_read,
        data::lists_are_taken_in_parts,
        data::references_are_counted_down_to_death,
        data::delayed_slices_wait_for_their_time,
        scanning::tables_are_read_whole_in_pages,
        scanning::what_waits_to_be_deleted_is_read_whole,
        scanning::loaded_records_keep_their_numbers,
        dumping::a_dump_loads_into_any_engine_and_dumps_again_the_same,
        dumping::a_binary_dump_loads_into_any_engine,
        dumping::a_directory_is_dumped_as_a_volume,
        dumping::what_cannot_be_loaded_leaves_no_volume,
        dumping::nothing_is_loaded_over_a_volume,
        contents::written_slices_show_and_count,
        contents::what_cannot_be_written_leaves_no_trace,
        contents::a_file_is_cut_and_grown_by_holes,
        contents::ranges_are_punched_zeroed_and_extended,
        contents::copied_ranges_share_slices,
        contents::files_that_must_not_change_do_not,
        contents::many_records_become_one,
        contents_model::contents_are_those_of_a_model,
        removing::removed_inodes_lie_in_the_trash_of_their_hour,
        removing::names_in_the_trash_are_cut_and_hard_links_counted,
        removing::without_a_trash_removed_inodes_are_deleted,
        removing::marked_inodes_and_the_trash_itself_bypass_the_trash,
        removing::what_cannot_be_removed_stays,
        removing::a_damaged_name_can_be_removed,
        removing::a_directory_goes_or_gets_a_name_never_both,
        removing::one_of_many_removes_a_name,
        renaming::names_move_with_all_they_stand_for,
        renaming::what_is_replaced_is_removed,
        renaming::what_is_replaced_without_a_trash_is_deleted_or_held,
        renaming::names_are_kept_or_exchanged_on_request,
        renaming::directories_never_end_up_below_themselves,
        renaming::what_cannot_be_renamed_stays,
        renaming::root_restores_from_the_trash_and_nobody_renames_into_it,
        renaming::moves_that_would_close_a_circle_together_do_not,
        holding::an_open_file_outlives_its_last_name,
        holding::a_session_that_ends_lets_go_of_what_it_holds,
        holding::what_a_dead_client_held_is_let_go_once,
        holding::a_client_does_not_bury_itself,
        holding::data_is_deleted_when_nothing_names_it,
        holding::blocks_that_cannot_be_deleted_are_found_again,
        holding::files_of_clients_that_died_are_deleted_an_hour_later,
        holding::the_trash_is_emptied_of_what_is_old,
        locks::whole_files_are_locked_by_one_or_shared_by_many,
        locks::ranges_split_and_merge_and_show_who_is_in_the_way,
        locks::several_locks_are_taken_together_or_not_at_all,
        locks::who_waits_gets_the_lock_or_gives_up,
        locks::locks_of_a_dead_client_are_released,
        locks::nobody_is_let_in_beside_an_exclusive_holder,
        trees::sizes_are_counted_or_known,
        trees::paths_lead_to_an_inode,
        trees::a_tree_is_removed_with_all_that_is_below,
        trees::past_the_trash_a_tree_is_deleted_by_root_alone,
        trees::what_may_not_be_removed_stays_and_is_told,
        trees::a_copy_has_all_the_original_has,
        trees::a_copy_that_cannot_be_completed_leaves_nothing,
        trees::copies_are_refused_where_the_rules_say_so,
        trees::a_removed_tree_is_whole_again_and_goes_back,
        quotas::records_of_quotas_are_kept_and_added_to,
        quotas::directory_quotas_of_every_ancestor_are_charged_and_kept,
        quotas::directory_quotas_follow_what_moves_and_what_is_removed,
        quotas::what_a_client_writes_is_charged_to_directories_above,
        quotas::owners_are_charged_for_every_inode,
        quotas::what_is_in_the_trash_has_its_owner_still,
        quotas::limits_of_owners_are_kept,
        quotas::a_first_quota_counts_what_owners_have,
        quotas::wrong_use_is_found_and_repaired,
        quotas::use_of_a_directory_without_a_record_is_counted_once,
        changelog::every_change_of_names_is_logged,
        changelog::every_change_of_an_inode_is_logged,
        changelog::what_tools_do_is_logged_as_nobodys,
        changelog::a_volume_without_a_log_logs_nothing,
        changelog::old_entries_and_too_many_are_removed,
        transactions::own_writes_are_seen_inside_and_nothing_outside,
        transactions::dropped_transaction_leaves_nothing,
        transactions::lists_grow_in_order,
        transactions::what_was_foreseen_is_not_older_than_what_was_written_since,
        transactions::many_attributes_come_in_order,
        transactions::touching_directories_adds_to_what_is_there,
        transactions::writers_take_turns,
    );
}

/// A case on the heap, by a function of its own: without optimisation the stack of whoever makes them all would have room for all at once.
fn on_the_heap<F: Future<Output = ()>>(case: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::pin(case())
}

/// One case's database.
pub(crate) struct Case {
    name: &'static str,
    meta: Meta,
    engine: Arc<dyn Engine>,
}

impl Case {
    /// Creates a volume with default settings that also counts what users and groups own, for audits to check.
    async fn init(&self) {
        let settings = Settings { user_group_quota: true, ..sample::settings() };
        self.ok(self.meta.init(&settings, false).await);
    }

    /// A client of the volume.
    async fn join(&self) -> Session {
        self.ok(Session::open(self.meta.clone(), sample::client(), HEARTBEAT).await)
    }

    /// The value, or a panic that names the case.
    #[track_caller]
    fn ok<T, E: std::fmt::Display>(&self, result: Result<T, E>) -> T {
        match result {
            Ok(value) => value,
            Err(error) => panic!("{}: {error}", self.name),
        }
    }

    /// The value that must be there.
    #[track_caller]
    fn some<T, E: std::fmt::Display>(&self, result: Result<Option<T>, E>) -> T {
        match self.ok(result) {
            Some(value) => value,
            None => panic!("{}: nothing found", self.name),
        }
    }
}
