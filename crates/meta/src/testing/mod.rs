//! One suite for every engine: what the rules in `ops` need of record primitives, asked through [`Meta`] and [`Txn`].
//!
//! Each case gets a fresh database without a volume; a failed case panics with its name in the message.

mod bulk;
mod namespace;
mod refusals;
pub mod sample;
mod transactions;

use std::sync::Arc;

use crate::engine::Engine;
use crate::meta::Meta;

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
                $case(&case).await;
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
        refusals::taken_name_is_named_and_nothing_is_written,
        refusals::taken_inode_and_slice_are_refused,
        refusals::ids_nobody_took_are_refused,
        refusals::missing_and_wrong_parents_are_refused,
        refusals::volume_limits_are_kept,
        refusals::volumes_that_oblige_writers_are_refused,
        transactions::own_writes_are_seen_inside_and_nothing_outside,
        transactions::dropped_transaction_leaves_nothing,
        transactions::lists_grow_in_order,
        transactions::many_attributes_come_in_order,
        transactions::writers_take_turns,
    );
}

/// One case's database.
pub(crate) struct Case {
    name: &'static str,
    meta: Meta,
    engine: Arc<dyn Engine>,
}

impl Case {
    /// Creates a volume with default settings.
    async fn init(&self) {
        self.ok(self.meta.init(&sample::settings(), false).await);
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
