//! Writes of a volume that is being loaded.

use async_trait::async_trait;
use shoal_format::AclRule;
use shoal_meta::{LoadTxn, MetaError, Serial};

use crate::args::Args;
use crate::link::TxnLink;
use crate::meaning::plain;
use crate::removal_statements::serial_name;
use crate::row::bind_acl;
use crate::session::Session;

#[async_trait]
impl<L: TxnLink> LoadTxn for Session<L> {
    async fn load_acls(&self, rules: &[(u32, AclRule)]) -> Result<(), MetaError> {
        fn bind<'r>(args: &mut Args<'r>, (id, rule): &'r (u32, AclRule)) {
            args.put(i64::from(*id));
            bind_acl(args, rule);
        }
        self.insert(&self.sql.scan.load_acls, rules, bind, plain).await.map_err(|failed| self.failed(failed.error))?;
        match &self.sql.scan.raise_acl_ids {
            Some(raise) if !rules.is_empty() => self.row(raise, Args::default(), |_| Ok(())).await.map(drop),
            _ => Ok(()),
        }
    }

    async fn raise_serial(&self, serial: Serial, last: u64) -> Result<(), MetaError> {
        let (name, last) = (serial_name(serial), i64::try_from(last).unwrap_or(i64::MAX));
        self.write(&self.sql.first_counter, Args::default().with(name).with(0i64)).await?;
        let args = Args::default().with(last).with(name).with(last);
        self.write(&self.sql.removal.elect, args).await
    }
}
