//! The client commands.

use futures::future::join_all;

use super::{
    arguments::{ClientOptions, DelArguments, GetArguments, Output, PutArguments},
    client::{Client, CommandError, describe},
    console::{print, print_bytes},
    output,
    txn::TxnArguments,
};
use crate::{
    proto::etcdserverpb::{MemberListRequest, StatusRequest, StatusResponse},
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

pub(super) async fn status(options: &ClientOptions, cluster: bool) -> Done {
    let endpoints = match cluster {
        true => endpoints_of_cluster(options).await?,
        false => options.endpoints.clone(),
    };
    let answers = endpoints.into_iter().map(|endpoint| async {
        let answer = status_of(&endpoint, options).await.map_err(|error| match error {
            CommandError::Status { status, .. } => describe(&status),
            CommandError::Unreachable(reason) => reason,
            error => error.to_string(),
        });
        (endpoint, answer)
    });
    let answers = join_all(answers).await;
    match options.output {
        Output::Json => print(&output::statuses_json(&answers).to_string())?,
        Output::Table => print(&output::statuses_table(&answers))?,
    }
    match answers.iter().filter(|(_, answer)| answer.is_err()).count() {
        0 => Ok(()),
        failed => Err(CommandError::Partial { failed, all: answers.len() }),
    }
}

async fn status_of(
    endpoint: &str,
    options: &ClientOptions,
) -> Result<StatusResponse, CommandError> {
    let client = Client::connect_to(endpoint, options.timeout()).await?;
    let request = client.request(StatusRequest {});
    let result = client.maintenance().status(request).await;
    Ok(result.map_err(|status| client.failure(status))?.into_inner())
}

async fn endpoints_of_cluster(options: &ClientOptions) -> Result<Vec<String>, CommandError> {
    let client = Client::connect(options).await?;
    let request = client.request(MemberListRequest { linearizable: false });
    let result = client.cluster().member_list(request).await;
    let response = result.map_err(|status| client.failure(status))?.into_inner();
    Ok(response.members.into_iter().flat_map(|member| member.client_urls).collect())
}
