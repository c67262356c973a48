//! How to see a failure of the registers again; the ordinary test run says so too.

use paxos_core::sim::Failure;

/// The command that shows a failure again.
pub(crate) fn replay_command(failure: &Failure) -> String {
    let Failure { seed, restriction, .. } = failure;
    format!(
        "cargo run --profile simulation -p paxos-core --example simulate -- \
         replay {seed}{restriction}"
    )
}
