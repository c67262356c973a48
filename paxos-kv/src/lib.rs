//! placeholder

pub mod proto;
pub mod store;
