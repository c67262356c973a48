//! The client commands.

use super::{
    arguments::{
        ClientOptions, CompactArguments, DelArguments, GetArguments, Output, PutArguments,
    },
    client::{Client, CommandError},
    console::{print, print_bytes},
    output,
    txn::TxnArguments,
};
use crate::{
    proto::etcdserverpb::{CompactionRequest, RangeRequest},
    store::validate::is_read_only,
};

type Done = Result<(), CommandError>;

pub(super) async fn get(options: &ClientOptions, arguments: &GetArguments) -> Done {
    let client = Client::connect(options).await?;
    let request = client.request(arguments.request());
    let result = client.kv().range(request).await;
    let response = result.map_err(|status| client.failure(status))?.into_inner();
    if arguments.print_value_only {
        let mut values = Vec::new();
        for kv in &response.kvs {
            values.extend_from_slice(&kv.value);
            values.push(b'\n');
        }
        return print_bytes(&values);
    }
    match options.output {
        Output::Json => print(&output::range_json(&response).to_string()),
        Output::Table if arguments.count_only => print(&response.count.to_string()),
        Output::Table => print(&output::range_table(&response)),
    }
}

pub(super) async fn put(options: &ClientOptions, arguments: &PutArguments) -> Done {
    let put = arguments.request()?;
    let client = Client::connect(options).await?;
    let request = client.request(put);
    let result = client.kv().put(request).await;
    let response = result.map_err(|status| client.write_failure(status))?.into_inner();
    match options.output {
        Output::Json => print(&output::put_json(&response).to_string()),
        Output::Table => print(&output::put_table(&response)),
    }
}

pub(super) async fn del(options: &ClientOptions, arguments: &DelArguments) -> Done {
    let client = Client::connect(options).await?;
    let request = client.request(arguments.request());
    let result = client.kv().delete_range(request).await;
    let response = result.map_err(|status| client.write_failure(status))?.into_inner();
    match options.output {
        Output::Json => print(&output::delete_json(&response).to_string()),
        Output::Table => print(&output::delete_table(&response)),
    }
}

pub(super) async fn txn(options: &ClientOptions, arguments: &TxnArguments) -> Done {
    let txn = arguments.request()?;
    let client = Client::connect(options).await?;
    let reads_only = is_read_only(&txn);
    let request = client.request(txn);
    let result = client.kv().txn(request).await;
    let failure = |status| match reads_only {
        true => client.failure(status),
        false => client.write_failure(status),
    };
    let response = result.map_err(failure)?.into_inner();
    match options.output {
        Output::Json => print(&output::txn_json(&response).to_string()),
        Output::Table => print(&output::txn_table(&response)),
    }
}

pub(super) async fn compact(options: &ClientOptions, arguments: &CompactArguments) -> Done {
    let client = Client::connect(options).await?;
    let revision = match (arguments.revision, arguments.keep) {
        (Some(revision), _) => revision,
        (None, keep) => newest(&client).await? - keep.unwrap_or_default(),
    };
    let request = CompactionRequest { revision, physical: arguments.physical };
    let result = client.kv().compact(client.request(request)).await;
    let response = result.map_err(|status| client.write_failure(status))?.into_inner();
    match options.output {
        Output::Json => print(&output::header_only_json(response.header.as_ref()).to_string()),
        Output::Table => print(&format!("compacted, revision {revision} is the oldest")),
    }
}

/// The revision of the last change.
async fn newest(client: &Client) -> Result<i64, CommandError> {
    let nothing = RangeRequest { key: "\0".into(), count_only: true, ..RangeRequest::default() };
    let result = client.kv().range(client.request(nothing)).await;
    let response = result.map_err(|status| client.failure(status))?.into_inner();
    Ok(response.header.map_or(0, |header| header.revision))
}
