//! The arguments of the client commands, and the requests they stand for.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    time::Duration,
};

use bytes::Bytes;
use clap::{Args, ValueEnum};

use super::{client::CommandError, lease};
use crate::{
    Keys,
    proto::etcdserverpb::{
        DeleteRangeRequest, PutRequest, RangeRequest,
        range_request::{SortOrder, SortTarget},
    },
};

/// What all client commands have.
#[derive(Clone, Debug, Args)]
pub(super) struct ClientOptions {
    /// Servers, separated by commas; the first that answers is used.
    #[arg(
        long,
        env = "ETCDCTL_ENDPOINTS",
        value_delimiter = ',',
        default_value = "127.0.0.1:2379",
        value_name = "HOST:PORT,…"
    )]
    pub(super) endpoints: Vec<String>,
    /// How the result is shown.
    #[arg(long, short = 'w', value_enum, default_value_t = Output::Table)]
    pub(super) output: Output,
    /// Seconds after which a request is given up [default: 10; 3 of those that go to every endpoint].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: Option<u64>,
}

impl ClientOptions {
    /// How long a request may take.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.unwrap_or(10))
    }

    /// How long one may take that goes to every endpoint: those that answer are not to wait for those that do not.
    pub(super) fn timeout_of_each(&self) -> Duration {
        Duration::from_secs(self.timeout.unwrap_or(3))
    }
}

/// Standard input beyond this is no value: no server takes a larger one.
const VALUE_BYTES_MAX: u64 = 64 << 20;

/// A key or a value as it was given, whatever its bytes.
fn bytes(argument: &OsStr) -> Bytes {
    Bytes::copy_from_slice(argument.as_bytes())
}

/// How the result is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Table,
    /// For programs: one line, keys and values in base64, as etcdctl writes it.
    Json,
}

/// Which keys.
#[derive(Clone, Debug, Args)]
struct Selection {
    /// The key, or the first one of a range.
    key: OsString,
    /// The end of the range, not included.
    range_end: Option<OsString>,
    /// All keys that begin with KEY; with an empty KEY, all keys.
    #[arg(long, conflicts_with_all = ["range_end", "from_key"])]
    prefix: bool,
    /// All keys from KEY on.
    #[arg(long, conflicts_with = "range_end")]
    from_key: bool,
}

impl Selection {
    fn keys(&self) -> Keys {
        let key = bytes(&self.key);
        match &self.range_end {
            _ if self.prefix => Keys::prefix(key),
            _ if self.from_key => Keys::from_key(key),
            Some(end) => Keys::between(key, bytes(end)),
            None => Keys::one(key),
        }
    }
}

/// What to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SortBy {
    Key,
    Version,
    Create,
    Modify,
    Value,
}

/// In which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    Ascend,
    Descend,
}

/// Arguments of `get`.
#[derive(Clone, Debug, Args)]
pub(super) struct GetArguments {
    #[command(flatten)]
    selection: Selection,
    /// Read as of this revision.
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    rev: i64,
    /// Show so many keys at most; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: i64,
    /// Sort by this.
    #[arg(long, value_enum)]
    sort_by: Option<SortBy>,
    /// Sort in this direction.
    #[arg(long, value_enum)]
    order: Option<Order>,
    /// Accept a stale answer, from one server alone.
    #[arg(long)]
    serializable: bool,
    /// Leave the values out.
    #[arg(long)]
    keys_only: bool,
    /// Show only how many keys there are.
    #[arg(long)]
    pub(super) count_only: bool,
    /// Write the values only, each on a line, as they are.
    #[arg(long, conflicts_with_all = ["keys_only", "count_only"])]
    pub(super) print_value_only: bool,
}

impl GetArguments {
    /// The request they stand for.
    pub(super) fn request(&self) -> RangeRequest {
        let sort_target = match self.sort_by {
            None | Some(SortBy::Key) => SortTarget::Key,
            Some(SortBy::Version) => SortTarget::Version,
            Some(SortBy::Create) => SortTarget::Create,
            Some(SortBy::Modify) => SortTarget::Mod,
            Some(SortBy::Value) => SortTarget::Value,
        };
        let sort_order = match self.order {
            None => SortOrder::None,
            Some(Order::Ascend) => SortOrder::Ascend,
            Some(Order::Descend) => SortOrder::Descend,
        };
        RangeRequest {
            limit: self.limit,
            revision: self.rev,
            sort_order: sort_order.into(),
            sort_target: sort_target.into(),
            serializable: self.serializable,
            keys_only: self.keys_only,
            count_only: self.count_only,
            ..self.selection.keys().into()
        }
    }
}

/// Arguments of `put`.
#[derive(Clone, Debug, Args)]
pub(super) struct PutArguments {
    /// The key.
    key: OsString,
    /// Its new value; from standard input if it is left out.
    #[arg(conflicts_with = "ignore_value")]
    value: Option<OsString>,
    /// Show what the key held before.
    #[arg(long)]
    prev_kv: bool,
    /// The lease that it has from now on; without one it has none.
    #[arg(long, value_name = "ID", value_parser = lease::id, conflicts_with = "ignore_lease")]
    lease: Option<i64>,
    /// Keep the lease that it has.
    #[arg(long)]
    ignore_lease: bool,
    /// Keep the value that it has.
    #[arg(long)]
    ignore_value: bool,
}

impl PutArguments {
    /// The request they stand for; the value is read from standard input if there is none.
    pub(super) fn request(&self) -> Result<PutRequest, CommandError> {
        self.request_with(&mut io::stdin().lock())
    }

    fn request_with(&self, input: &mut impl Read) -> Result<PutRequest, CommandError> {
        let failed =
            |error| CommandError::Io("read the value from standard input".to_owned(), error);
        let value = match self.value() {
            Some(value) => value,
            None if self.ignore_value => Bytes::new(),
            None => {
                let mut value = Vec::new();
                input.take(VALUE_BYTES_MAX + 1).read_to_end(&mut value).map_err(failed)?;
                match value.len() as u64 {
                    0 => return Err(CommandError::NoValue),
                    length if length > VALUE_BYTES_MAX => {
                        return Err(failed(io::Error::other("it is larger than any server takes")));
                    }
                    _ => value.into(),
                }
            }
        };
        Ok(self.request_of(value))
    }

    /// The value, if it was given.
    pub(super) fn value(&self) -> Option<Bytes> {
        self.value.as_deref().map(bytes)
    }

    /// The request with this value.
    pub(super) fn request_of(&self, value: Bytes) -> PutRequest {
        PutRequest {
            key: bytes(&self.key),
            value,
            lease: self.lease.unwrap_or(0),
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        }
    }
}

/// Arguments of `del`.
#[derive(Clone, Debug, Args)]
pub(super) struct DelArguments {
    #[command(flatten)]
    selection: Selection,
    /// Show what is deleted.
    #[arg(long)]
    prev_kv: bool,
}

impl DelArguments {
    /// The request they stand for.
    pub(super) fn request(&self) -> DeleteRangeRequest {
        let Keys { first, end } = self.selection.keys();
        DeleteRangeRequest { key: first, range_end: end, prev_kv: self.prev_kv }
    }
}

/// An id as it is shown.
pub(super) fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

/// Arguments of `compact`.
#[derive(Clone, Debug, Args)]
pub(super) struct CompactArguments {
    /// What is older than this revision is forgotten.
    #[arg(required_unless_present = "keep")]
    pub(super) revision: Option<i64>,
    /// Forget all but so many of the newest revisions.
    #[arg(long, value_name = "N", conflicts_with = "revision",
        value_parser = clap::value_parser!(i64).range(0..))]
    pub(super) keep: Option<i64>,
    /// Wait until what is forgotten has left the tables.
    #[arg(long)]
    pub(super) physical: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &str, prefix: bool, from_key: bool) -> (Bytes, Bytes) {
        let keys = Selection { key: key.into(), range_end: None, prefix, from_key }.keys();
        (keys.first, keys.end)
    }

    #[test]
    fn keys_are_selected_as_by_etcdctl() {
        let bytes = |text: &'static [u8]| Bytes::from_static(text);
        assert_eq!(range("k", false, false), (bytes(b"k"), bytes(b"")));
        assert_eq!(range("k", true, false), (bytes(b"k"), bytes(b"l")));
        assert_eq!(range("k", false, true), (bytes(b"k"), bytes(b"\0")));
        assert_eq!(range("", true, false), (bytes(b"\0"), bytes(b"\0")));
        assert_eq!(range("", false, true), (bytes(b"\0"), bytes(b"\0")));
    }

    #[test]
    fn a_value_that_is_left_out_is_read_as_it_is() {
        let put = |value: Option<&str>, input: &[u8]| {
            let value = value.map(OsString::from);
            let arguments = PutArguments {
                key: "k".into(),
                value,
                prev_kv: false,
                lease: None,
                ignore_lease: false,
                ignore_value: false,
            };
            arguments.request_with(&mut &input[..]).map(|put| put.value)
        };
        assert_eq!(put(Some(""), b"unread").expect("it is given"), "");
        assert_eq!(put(None, b"\xff\0\n").expect("it is read"), &b"\xff\0\n"[..]);
        assert!(matches!(put(None, b""), Err(CommandError::NoValue)));
    }
}
