//! meta-sql
