//! Transactions on the command line, in the notation of etcdctl.
//!
//! A condition is `target("key") operator "value"`, as in `mod("k") > "3"`; an operation is the
//! command line of `get`, `put` or `del`.

use std::io::Read;

use bytes::Bytes;
use clap::{Args, Parser, Subcommand};

use super::arguments::{DelArguments, GetArguments, PutArguments};
use crate::proto::etcdserverpb::{
    Compare, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
};

/// Standard input beyond this is no transaction, in bytes.
const INPUT_BYTES_MAX: usize = 4 << 20;

/// Arguments of `txn`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Without --if, --then and --else, the three lists are read from standard input: one condition or \
operation per line, an empty line after each list.

  paxos-kv txn --if 'mod(\"k\") = \"0\"' --then 'put k first' --else 'get k'")]
pub(super) struct TxnArguments {
    /// A condition: value, version, create, mod or lease of a key, =, !=, < or >, and a value.
    #[arg(long = "if", value_name = "CONDITION")]
    conditions: Vec<String>,
    /// An operation to do if all conditions hold.
    #[arg(long = "then", value_name = "OPERATION")]
    success: Vec<String>,
    /// An operation to do otherwise.
    #[arg(long = "else", value_name = "OPERATION")]
    failure: Vec<String>,
}

/// A transaction that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum TxnError {
    /// A condition.
    #[error("{0:?} is no condition: write it like mod(\"key\") = \"0\" or value(\"key\") = \"x\"")]
    Condition(String),
    /// A number was expected.
    #[error("{0:?} does not compare with a whole number: only value(…) compares with a text")]
    Number(String),
    /// An operation.
    #[error("{0:?} is no operation ({1}): write it like put key value, get key or del key")]
    Operation(String, String),
    /// Standard input.
    #[error("cannot read the transaction from standard input: {0}")]
    Input(String),
}

impl TxnArguments {
    /// The request they stand for; read from standard input if there are none.
    pub(super) fn request(&self) -> Result<TxnRequest, TxnError> {
        let lists = [&self.conditions, &self.success, &self.failure];
        if lists.iter().any(|list| !list.is_empty()) {
            return transaction(&self.conditions, &self.success, &self.failure);
        }
        let mut text = String::new();
        let mut input = std::io::stdin().lock().take(INPUT_BYTES_MAX as u64 + 1);
        input.read_to_string(&mut text).map_err(|error| TxnError::Input(error.to_string()))?;
        if text.len() > INPUT_BYTES_MAX {
            return Err(TxnError::Input(format!("it exceeds {INPUT_BYTES_MAX} bytes")));
        }
        parse(&text)
    }
}

/// Three lists of lines with an empty line between them.
fn parse(text: &str) -> Result<TxnRequest, TxnError> {
    let mut lists = [Vec::new(), Vec::new(), Vec::new()];
    let mut current = 0;
    for line in text.lines() {
        if line.trim().is_empty() {
            current += 1;
        } else if let Some(list) = lists.get_mut(current) {
            list.push(line.to_owned());
        } else {
            return Err(TxnError::Input(format!("{line:?} follows after the three lists")));
        }
    }
    let [conditions, success, failure] = lists;
    transaction(&conditions, &success, &failure)
}

fn transaction(
    conditions: &[String],
    success: &[String],
    failure: &[String],
) -> Result<TxnRequest, TxnError> {
    Ok(TxnRequest {
        compare: conditions.iter().map(|text| condition(text)).collect::<Result<_, _>>()?,
        success: success.iter().map(|text| operation(text)).collect::<Result<_, _>>()?,
        failure: failure.iter().map(|text| operation(text)).collect::<Result<_, _>>()?,
    })
}

fn condition(text: &str) -> Result<Compare, TxnError> {
    let malformed = || TxnError::Condition(text.to_owned());
    let (target, rest) = text.trim().split_once('(').ok_or_else(malformed)?;
    let (key, rest) = word(rest, &[')']).ok_or_else(malformed)?;
    let rest = rest.trim_start().strip_prefix(')').ok_or_else(malformed)?.trim_start();
    let operators = [
        ("!=", CompareResult::NotEqual),
        ("=", CompareResult::Equal),
        ("<", CompareResult::Less),
        (">", CompareResult::Greater),
    ];
    let (rest, result) = operators
        .into_iter()
        .find_map(|(sign, result)| Some((rest.strip_prefix(sign)?, result)))
        .ok_or_else(malformed)?;
    let (value, rest) = word(rest, &[]).ok_or_else(malformed)?;
    if !rest.trim().is_empty() {
        return Err(malformed());
    }
    let number = || value.parse::<i64>().map_err(|_| TxnError::Number(text.to_owned()));
    let (target, target_union) = match target.trim() {
        "value" | "val" => (CompareTarget::Value, TargetUnion::Value(Bytes::from(value.clone()))),
        "version" | "ver" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        "create" | "c" => (CompareTarget::Create, TargetUnion::CreateRevision(number()?)),
        "mod" | "m" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number()?)),
        _ => return Err(malformed()),
    };
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: Bytes::from(key),
        target_union: Some(target_union),
        range_end: Bytes::new(),
    })
}

/// The word at the start, in double quotes with backslash escapes or bare up to a blank or one of
/// `ends`, and what follows it.
fn word<'a>(text: &'a str, ends: &[char]) -> Option<(String, &'a str)> {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let is_end = |character: char| character.is_whitespace() || ends.contains(&character);
        let end = text.find(is_end).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut result = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((result, &quoted[at + 1..])),
            '\\' => result.push(match characters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                other => other,
            }),
            other => result.push(other),
        }
    }
    None
}

/// A line of a transaction, parsed as a command line.
#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true, disable_help_subcommand = true)]
struct OperationLine {
    #[command(subcommand)]
    operation: Operation,
}

#[derive(Subcommand)]
enum Operation {
    Get(GetArguments),
    Put(PutArguments),
    Del(DelArguments),
}

fn operation(text: &str) -> Result<RequestOp, TxnError> {
    let malformed = |reason: &str| TxnError::Operation(text.to_owned(), reason.to_owned());
    let words = shlex::split(text).ok_or_else(|| malformed("a quote is not closed"))?;
    let line = OperationLine::try_parse_from(words).map_err(|error| {
        let text = error.to_string();
        let reason = text.lines().next().unwrap_or_default();
        malformed(reason.trim_start_matches("error: "))
    })?;
    let request = match line.operation {
        Operation::Get(arguments) => Request::RequestRange(arguments.request()),
        Operation::Put(arguments) => Request::RequestPut(arguments.request()),
        Operation::Del(arguments) => Request::RequestDeleteRange(arguments.request()),
    };
    Ok(RequestOp { request: Some(request) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_names_target_key_operator_and_value() {
        let compare = condition(r#"mod("my key") > "3""#).expect("it is one");
        assert_eq!(compare.key, Bytes::from_static(b"my key"));
        assert_eq!(compare.target, i32::from(CompareTarget::Mod));
        assert_eq!(compare.result, i32::from(CompareResult::Greater));
        assert_eq!(compare.target_union, Some(TargetUnion::ModRevision(3)));
        let compare = condition(r#"value(k)!="a \"b\"""#).expect("it is one");
        assert_eq!(compare.result, i32::from(CompareResult::NotEqual));
        let expected = TargetUnion::Value(Bytes::from_static(b"a \"b\""));
        assert_eq!(compare.target_union, Some(expected));
    }

    #[test]
    fn a_malformed_condition_is_refused() {
        for text in
            ["", "k = 1", "mod(k) 3", "mod(k = 3", "size(k) = 3", "mod(\"k) = 3", "mod(k) = 3 4"]
        {
            assert!(matches!(condition(text), Err(TxnError::Condition(_))), "{text}");
        }
        assert!(matches!(condition("mod(k) = x"), Err(TxnError::Number(_))));
    }

    #[test]
    fn three_lists_are_read_with_empty_lines_between_them() {
        let txn = parse("create(k) = 0\n\nput k 'a b'\nget k --prefix\n\ndel k\n").expect("fine");
        assert_eq!((txn.compare.len(), txn.success.len(), txn.failure.len()), (1, 2, 1));
        let Some(Request::RequestPut(put)) = &txn.success[0].request else {
            panic!("the first one is a put");
        };
        assert_eq!(put.value, Bytes::from_static(b"a b"));
        assert!(parse("\n\n\nput k v").is_err());
    }

    #[test]
    fn a_malformed_operation_is_refused_with_the_reason() {
        for text in ["put k", "grab k", "put k 'v", ""] {
            let error = operation(text).expect_err(text).to_string();
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
