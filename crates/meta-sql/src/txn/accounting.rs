//! Writes of counters and statistics.

use async_trait::async_trait;
use shoal_format::Ino;
use shoal_meta::{AccountingTxn, Counter, DirUsage, MetaError};

use crate::args::Args;
use crate::link::TxnLink;
use crate::meaning::plain;
use crate::session::{Session, counter_name};

#[async_trait]
impl<L: TxnLink> AccountingTxn for Session<L> {
    async fn add_counter(&self, counter: Counter, delta: i64) -> Result<(), MetaError> {
        let args = Args::default().with(counter_name(counter)).with(delta);
        self.write(&self.sql.add_counter, args).await
    }

    async fn put_dir_usage(&self, usage: &[(Ino, DirUsage)]) -> Result<(), MetaError> {
        fn bind<'r>(args: &mut Args<'r>, (dir, usage): &'r (Ino, DirUsage)) {
            args.put_u64(dir.0);
            args.put(usage.length);
            args.put(usage.space);
            args.put(usage.inodes);
        }
        self.insert(&self.sql.put_dir_usage, usage, bind, plain).await.map_err(|failed| self.failed(failed.error))
    }

    async fn forget_dir_usage(&self) -> Result<(), MetaError> {
        self.write(&self.sql.forget_dir_usage, Args::default()).await
    }

    async fn add_dir_usage(&self, usage: &[(Ino, DirUsage)]) -> Result<Vec<Ino>, MetaError> {
        let mut unknown = Vec::new();
        for (dir, more) in usage {
            let args = Args::default().with(more.length).with(more.space).with(more.inodes).ino(*dir);
            if self.execute(&self.sql.add_dir_usage, args).await? == 0 {
                unknown.push(*dir);
            }
        }
        Ok(unknown)
    }
}
