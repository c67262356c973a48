//! Transactions on the command line, in the notation of etcdctl.
//!
//! A condition is `target("key") operator "value"`, as in `mod("k") > "3"`; an operation is the
//! command line of `get`, `put` or `del`.

use std::{
    ffi::OsString,
    io::Read,
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use bytes::Bytes;
use clap::{Args, Parser, Subcommand, error::ErrorKind};

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
    conditions: Vec<OsString>,
    /// An operation to do if all conditions hold.
    #[arg(long = "then", value_name = "OPERATION")]
    success: Vec<OsString>,
    /// An operation to do otherwise.
    #[arg(long = "else", value_name = "OPERATION")]
    failure: Vec<OsString>,
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
            return transaction(
                lists.map(|list| list.iter().map(|text| text.as_bytes()).collect()),
            );
        }
        let mut text = Vec::new();
        let mut input = std::io::stdin().lock().take(INPUT_BYTES_MAX as u64 + 1);
        input.read_to_end(&mut text).map_err(|error| TxnError::Input(error.to_string()))?;
        if text.len() > INPUT_BYTES_MAX {
            return Err(TxnError::Input(format!("it exceeds {INPUT_BYTES_MAX} bytes")));
        }
        parse(&text)
    }
}

/// Three lists of lines with an empty line between them.
fn parse(text: &[u8]) -> Result<TxnRequest, TxnError> {
    let mut lists = [Vec::new(), Vec::new(), Vec::new()];
    let mut current = 0;
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    for line in text.split(|&byte| byte == b'\n') {
        if line.trim_ascii().is_empty() {
            current += 1;
        } else if let Some(list) = lists.get_mut(current) {
            list.push(line);
        } else {
            let line = shown(line);
            return Err(TxnError::Input(format!("{line:?} follows after the three lists")));
        }
    }
    transaction(lists)
}

/// For messages.
fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn transaction(lists: [Vec<&[u8]>; 3]) -> Result<TxnRequest, TxnError> {
    let [conditions, success, failure] = lists;
    Ok(TxnRequest {
        compare: conditions.into_iter().map(condition).collect::<Result<_, _>>()?,
        success: success.into_iter().map(operation).collect::<Result<_, _>>()?,
        failure: failure.into_iter().map(operation).collect::<Result<_, _>>()?,
    })
}

fn condition(text: &[u8]) -> Result<Compare, TxnError> {
    let malformed = || TxnError::Condition(shown(text));
    let bracket = text.iter().position(|&byte| byte == b'(').ok_or_else(malformed)?;
    let (target, rest) = (text[..bracket].trim_ascii(), &text[bracket + 1..]);
    let (key, rest) = word(rest, b")").ok_or_else(malformed)?;
    let rest = rest.trim_ascii_start().strip_prefix(b")").ok_or_else(malformed)?.trim_ascii_start();
    let operators: [(&[u8], _); 4] = [
        (b"!=", CompareResult::NotEqual),
        (b"=", CompareResult::Equal),
        (b"<", CompareResult::Less),
        (b">", CompareResult::Greater),
    ];
    let (rest, result) = operators
        .into_iter()
        .find_map(|(sign, result)| Some((rest.strip_prefix(sign)?, result)))
        .ok_or_else(malformed)?;
    let (value, rest) = word(rest, b"").ok_or_else(malformed)?;
    if !rest.trim_ascii().is_empty() {
        return Err(malformed());
    }
    let number = || {
        let value = std::str::from_utf8(&value).ok().and_then(|value| value.parse::<i64>().ok());
        value.ok_or_else(|| TxnError::Number(shown(text)))
    };
    let (target, target_union) = match target {
        b"value" | b"val" => (CompareTarget::Value, TargetUnion::Value(Bytes::from(value.clone()))),
        b"version" | b"ver" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        b"create" | b"c" => (CompareTarget::Create, TargetUnion::CreateRevision(number()?)),
        b"mod" | b"m" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        b"lease" => (CompareTarget::Lease, TargetUnion::Lease(number()?)),
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
fn word<'a>(text: &'a [u8], ends: &[u8]) -> Option<(Vec<u8>, &'a [u8])> {
    let text = text.trim_ascii_start();
    let Some(mut rest) = text.strip_prefix(b"\"") else {
        let is_end = |byte: &u8| byte.is_ascii_whitespace() || ends.contains(byte);
        let end = text.iter().position(is_end).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_vec(), &text[end..]));
    };
    let mut result = Vec::new();
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        match byte {
            b'"' => return Some((result, rest)),
            b'\\' => {
                let (&escaped, after) = rest.split_first()?;
                rest = after;
                result.push(match escaped {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'x' => {
                        let (digits, after) = rest.split_at_checked(2)?;
                        rest = after;
                        u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
                    }
                    other => other,
                });
            }
            other => result.push(other),
        }
    }
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

fn operation(text: &[u8]) -> Result<RequestOp, TxnError> {
    let malformed = |reason: &str| TxnError::Operation(shown(text), reason.to_owned());
    let words = shlex::bytes::split(text).ok_or_else(|| malformed("a quote is not closed"))?;
    let words = words.into_iter().map(OsString::from_vec);
    let line = OperationLine::try_parse_from(words).map_err(|error| {
        let text = error.to_string();
        let reason = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        match error.kind() {
            ErrorKind::UnknownArgument => malformed(&format!(
                "{reason}: write -- before a key or value that begins with a dash, as in put -- key -1"
            )),
            _ => malformed(reason),
        }
    })?;
    let request = match line.operation {
        Operation::Get(arguments) => Request::RequestRange(arguments.request()),
        Operation::Put(arguments) => {
            let value = arguments.value().ok_or_else(|| malformed("it has no value"))?;
            Request::RequestPut(arguments.request_of(value))
        }
        Operation::Del(arguments) => Request::RequestDeleteRange(arguments.request()),
    };
    Ok(RequestOp { request: Some(request) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_names_target_key_operator_and_value() {
        let compare = condition(br#"mod("my key") > "3""#).expect("it is one");
        assert_eq!(compare.key, Bytes::from_static(b"my key"));
        assert_eq!(compare.target, i32::from(CompareTarget::Mod));
        assert_eq!(compare.result, i32::from(CompareResult::Greater));
        assert_eq!(compare.target_union, Some(TargetUnion::ModRevision(3)));
        let compare = condition(br#"value(k)!="a \"b\"""#).expect("it is one");
        assert_eq!(compare.result, i32::from(CompareResult::NotEqual));
        let expected = TargetUnion::Value(Bytes::from_static(b"a \"b\""));
        assert_eq!(compare.target_union, Some(expected));
    }

    #[test]
    fn keys_and_values_may_be_any_bytes() {
        let compare = condition(b"value(\"\xff\\x00\\xfe\") = \"\xf0\"").expect("it is one");
        assert_eq!(compare.key, &b"\xff\0\xfe"[..]);
        assert_eq!(compare.target_union, Some(TargetUnion::Value(Bytes::from_static(b"\xf0"))));
        assert!(condition(b"value(\"\\x0\") = 1").is_err());
        let Some(Request::RequestPut(put)) =
            operation(b"put \xff '\xfe'").expect("it is one").request
        else {
            panic!("it is a put");
        };
        assert_eq!((&put.key[..], &put.value[..]), (&b"\xff"[..], &b"\xfe"[..]));
    }

    #[test]
    fn a_malformed_condition_is_refused() {
        for text in
            ["", "k = 1", "mod(k) 3", "mod(k = 3", "size(k) = 3", "mod(\"k) = 3", "mod(k) = 3 4"]
        {
            assert!(matches!(condition(text.as_bytes()), Err(TxnError::Condition(_))), "{text}");
        }
        for target in ["mod", "version", "create", "lease"] {
            for value in ["x", "\"\"", "1.5", "694d71ddacfda227", "99999999999999999999"] {
                let text = format!("{target}(k) = {value}");
                assert!(matches!(condition(text.as_bytes()), Err(TxnError::Number(_))), "{text}");
            }
        }
    }

    #[test]
    fn three_lists_are_read_with_empty_lines_between_them() {
        let txn = parse(b"create(k) = 0\n\nput k 'a b'\nget k --prefix\n\ndel k\n").expect("fine");
        assert_eq!((txn.compare.len(), txn.success.len(), txn.failure.len()), (1, 2, 1));
        let Some(Request::RequestPut(put)) = &txn.success[0].request else {
            panic!("the first one is a put");
        };
        assert_eq!(put.value, Bytes::from_static(b"a b"));
        assert!(parse(b"\n\n\nput k v").is_err());
    }

    #[test]
    fn a_malformed_operation_is_refused_with_the_reason() {
        for text in ["put k", "grab k", "put k 'v", ""] {
            let error = operation(text.as_bytes()).expect_err(text).to_string();
            assert!(!error.contains('\n'), "{error}");
        }
        let error = operation(b"put k -1").expect_err("it is an option").to_string();
        assert!(error.contains("write -- before") && error.contains("put -- key -1"), "{error}");
        assert!(operation(b"put -- k -1").is_ok());
    }
}
