//! What this member measures, in the text format of Prometheus.
//!
//! The names are etcd's wherever it has the same, so that its dashboards and alerts work.

use std::{fmt::Write, fs};

use axum::{extract::State, http::header, response::IntoResponse};
use rustix::process::{Resource, getrlimit};

use super::Shared;
use crate::api::{API_VERSION, CLUSTER_VERSION};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything there is.
pub(super) async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let mut text = Text::default();
    member(&mut text, &shared);
    process(&mut text);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text.0)
}

/// The lines of the answer.
#[derive(Default)]
struct Text(String);

impl Text {
    fn add(&mut self, kind: &str, name: &str, labels: &str, help: &str, value: impl ToString) {
        let value = value.to_string();
        let written =
            write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{labels} {value}\n");
        written.expect("a text grows as needed");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl ToString) {
        self.add("gauge", name, "", help, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl ToString) {
        self.add("counter", name, "", help, value);
    }
}

fn member(text: &mut Text, Shared { context, connections }: &Shared) {
    let status = context.node().status();
    let (leader, me) = (status.leader, status.id);
    let sizes = context.sizes();
    let version = format!("{{server_version=\"{API_VERSION}\"}}");
    text.add("gauge", "etcd_server_version", &version, "The version of the API.", 1);
    let version = format!("{{cluster_version=\"{}\"}}", CLUSTER_VERSION.trim_end_matches(".0"));
    text.add("gauge", "etcd_cluster_version", &version, "What all members understand.", 1);
    let id = format!("{{server_id=\"{:x}\"}}", me.0);
    text.add("gauge", "etcd_server_id", &id, "This member.", 1);
    let has_leader = u8::from(leader.is_some());
    text.gauge("etcd_server_has_leader", "Whether it knows a leader.", has_leader);
    text.gauge("etcd_server_is_leader", "Whether it leads.", u8::from(leader == Some(me)));
    text.counter(
        "etcd_server_proposals_committed_total",
        "The last slot of the log that is known to be chosen.",
        status.chosen.0,
    );
    text.counter(
        "etcd_server_proposals_applied_total",
        "The last slot of the log that is applied.",
        status.applied.0,
    );
    let pending = status.outstanding;
    text.gauge("etcd_server_proposals_pending", "Writes of its clients under way.", pending);
    text.gauge("etcd_mvcc_db_total_size_in_bytes", "What the state takes up.", sizes.bytes);
    text.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "What it needs.", sizes.in_use);
    text.gauge("etcd_debugging_mvcc_current_revision", "The newest revision.", sizes.revision);
    text.gauge(
        "etcd_debugging_mvcc_compact_revision",
        "The revision that history begins at.",
        sizes.compacted,
    );
    text.gauge("paxos_checkpoint_slot", "What a restart begins with.", status.checkpoint.0);
    text.gauge("paxos_floor_slot", "The log up to here is gone.", status.floor.0);
    text.counter("paxos_states_sent_total", "States sent to members.", status.states_sent);
    let taken_over = status.states_taken_over;
    text.counter("paxos_states_taken_over_total", "States taken from members.", taken_over);
    text.gauge("paxos_disk_full", "Whether a disk is full.", u8::from(context.lacks_room()));
    text.gauge("paxos_disk_behind", "Whether one is too slow.", u8::from(status.is_disk_behind));
    text.gauge("paxos_client_connections", "Connections of clients.", connections.count());
    text.gauge("paxos_client_connections_max", "As many as there may be.", connections.max());
}

/// The process, as far as the system tells.
fn process(text: &mut Text) {
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        // One of them is for the list itself.
        let open = descriptors.count().saturating_sub(1);
        text.gauge("process_open_fds", "Open files and sockets.", open);
    }
    if let Some(max) = getrlimit(Resource::Nofile).current {
        text.gauge("process_max_fds", "As many as there may be.", max);
    }
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.and_then(|pages| pages.split(' ').nth(1)?.parse::<usize>().ok());
    if let Some(pages) = resident {
        let bytes = pages * rustix::param::page_size();
        text.gauge("process_resident_memory_bytes", "Memory in use.", bytes);
    }
}
