//! For whoever runs a cluster: backups, restoring, coming from etcd and going back, what to watch.
//!
//! Commands are shown with `paxos-kv`; `etcdctl` does the same with the same words.
//!
//! # Certificates of members
//!
//! With `https://` or `quic://` peer URLs and `--peer-cert-file`, `--peer-key-file` and
//! `--peer-trusted-ca-file`, members let in only each other. A member's certificate
//!
//! - is signed by the authority in `--peer-trusted-ca-file`, and of X.509 version 3,
//! - names the host of its member's peer URL (`subjectAltName=DNS:n1.example.com` or `IP:10.0.0.1`): whoever
//!   shows it is believed to be a member at that host,
//! - is fit for both sides (`extendedKeyUsage=serverAuth,clientAuth`, if it is restricted at all),
//! - and may name its member as well, `URI:urn:paxos:name:n1`, and is for no other then. Members that share a
//!   host are told apart only so.
//!
//! New files are read without a restart, for connections made a second later; if they do not work, the log
//! says so and those read before are used on. To change the authority, put the old and the new one into
//! `--peer-trusted-ca-file` on every member first.
//!
//! # Adding, replacing and removing members
//!
//! Who the members are is in the log, from the first start on; what `--initial-cluster` says on a later start are
//! addresses to try. Clients write on meanwhile.
//!
//! ```sh
//! paxos-kv member list                                          # ids, as the other commands take them
//! paxos-kv member add n4 --peer-urls http://10.0.0.4:2380       # shows the command that starts n4
//! paxos-kv serve --name n4 --data-dir /var/lib/paxos/n4 \
//!     --initial-cluster $CLUSTER,n4=http://10.0.0.4:2380 --initial-cluster-state existing \
//!     --join http://10.0.0.1:2379,http://10.0.0.2:2379 --listen-peer-urls http://10.0.0.4:2380 …
//! ```
//!
//! - A new member is a **learner** first: it gets everything and counts for nothing. The server that was asked
//!   to add it makes it a voter as soon as it has caught up, for an hour. If that server is started anew before,
//!   or with `member add --learner`, that is left to you: `paxos-kv member promote ID`, which is refused until it
//!   has caught up.
//! - `--join` names client URLs of members, of which the new one learns who it is. It does so once, on an empty
//!   data directory, and keeps it there as `member.json`; leave the flag as it is on later starts. After
//!   `etcdctl member add`, pass it too. (etcdctl adds no member with a `quic://` URL.)
//! - **Replacing** a member, because its disk is lost for instance, in one command. It shows how to start the new
//!   one, waits until that votes, and removes the old one, which need not run:
//!
//!   ```sh
//!   paxos-kv member replace ID n4 --peer-urls http://10.0.0.4:2380
//!   ```
//!
//!   If the new one is to have the peer URL of the old one, remove that first, then add: `paxos-kv member remove
//!   ID && paxos-kv member add n3 --peer-urls http://10.0.0.3:2380`, with an empty data directory.
//! - **Removing**: `paxos-kv member remove ID`. Its server ends with exit code 1, and says that its data is of no
//!   use any more. It is refused if too few of those who are left run.
//! - **Moving** to another address: `paxos-kv member update ID --peer-urls http://10.0.0.9:2380`, then start the
//!   member with the new URL in `--listen-peer-urls`, and with `--initial-advertise-peer-urls` and
//!   `--initial-cluster` as they were.
//! - One change is made at a time, and there are nine members at most.
//!
//! # Restarting members, and saying who leads
//!
//! Stop a member with SIGTERM and start it again, one after the other, each when the one before is ready. One that
//! leads hands over first, so that clients wait for some milliseconds and nobody for an election. To have another
//! member lead, whichever does now:
//!
//! ```sh
//! paxos-kv move-leader ID
//! ```
//!
//! A member that could not lead is refused with the reason: it has no vote, does not answer, cannot write, or has to
//! catch up. If it does not take over within an election timeout everything stays as it was.
//!
//! # Taking backups
//!
//! ```sh
//! paxos-kv snapshot save backup.db --endpoints 127.0.0.1:2379
//! paxos-kv snapshot status backup.db
//! ```
//!
//! One member is asked, and sends its store as of that moment: all keys, with every revision that is
//! not compacted. Writes go on meanwhile. The file has the name it is given only once it is whole and
//! on the disk; one of that name is replaced then. Its last 32 bytes are a checksum of the others.
//!
//! - **No quorum is needed.** A member that lags sends what it has, so ask one that is well; but of a
//!   cluster that has lost its majority, whatever is left can still be saved. Save it from every
//!   member that runs, and restore the file with the highest revision.
//! - A member sends two backups at a time and refuses more with `too many requests`. It needs memory of
//!   about 50 MiB for one, and room on its disk for the names of the keys if anything is compacted.
//! - While a backup is under way, the file of the store grows by what is changed. A client that takes
//!   nothing for a minute is cut off.
//! - Not in a backup: who the members are, and what they had promised. A member that has lost its disk
//!   is replaced, not restored.
//!
//! # Restoring
//!
//! A restore makes a **new cluster**. Every member is restored from the same file, and started with the
//! same flags:
//!
//! ```sh
//! CLUSTER=n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380,n3=http://10.0.0.3:2380
//! paxos-kv snapshot restore backup.db --name n1 --data-dir /var/lib/paxos/n1 \
//!     --initial-cluster $CLUSTER --initial-cluster-token after-the-fire
//! paxos-kv serve --name n1 --data-dir /var/lib/paxos/n1 \
//!     --initial-cluster $CLUSTER --initial-cluster-token after-the-fire …
//! ```
//!
//! - Choose a **token** that no cluster has had. The ids of cluster and members follow from it and from
//!   the URLs: members of the old cluster that still run somewhere are refused then.
//! - Keys have the revisions that they had. Clients that have watched the old cluster, or cache what
//!   they have read at a revision, would take new revisions for old ones: with `--bump-revision
//!   1000000000 --mark-compacted` the revision goes on far above all that they can have seen, and all
//!   below counts as compacted, so that watchers are told to read anew.
//! - There must be nothing in the data directory. It appears as a whole at the end: what a restore
//!   leaves behind that is cut short has a name like `.n1-restoring-…` and can be removed.
//! - Members that were restored from different files, or with another `--bump-revision`, do not work
//!   together: as soon as they hear of each other they stop, with `the chosen log differs` in their
//!   logs. Restore all of them anew.
//!
//! # Coming from etcd, and going back
//!
//! The files are etcd's own, in both directions:
//!
//! ```sh
//! etcdctl snapshot save etcd.db                     # of an etcd 3.4 or 3.5
//! paxos-kv snapshot restore etcd.db --name n1 …     # keys, revisions and history go on here
//!
//! paxos-kv snapshot save ours.db
//! etcdctl snapshot restore ours.db --name e1 …      # or etcdutl; and there
//! ```
//!
//! **Not taken over from etcd: leases, users, roles and alarms.** A key that had a lease stays until it is
//! deleted; the command says how many there were. So stop what keeps leases alive first, and let it
//! make its keys anew.
//!
//! A database that was copied out of the directory of a stopped etcd (`member/snap/db`) has no checksum:
//! it takes `--skip-hash-check`.
//!
//! # Disks
//!
//! - **A full disk**, of the log or of the state, makes a member refuse writes (`mvcc: database space exceeded`)
//!   and serve reads. It shows as the alarm `NOSPACE`, in `status` and in `GET /health`, and clears itself as soon as
//!   there is room: there is nothing to disarm.
//! - **A disk that returns something else than was written** is noticed: the log is checked at a start, the state
//!   whenever something of it is read. The member ends with exit code 1 and names the file and the place. Do not
//!   start it on that data again: replace it as a new member.
//! - **A member whose state is another one than that of the others**, because its memory is faulty, say, ends with
//!   exit code 1 and `the state after slot … differs from that of a quorum`. Members compare what their states add
//!   up to every 256 slots; a row that has changed by itself shows when a command replaces or deletes it, or when the
//!   state is sent to another member. Replace that member as a new one. (A member whose state is of a version
//!   that did not add up takes no part in it, until it takes over the state of another one.)
//! - The state of an earlier version, which had no checksums, is checked and written again at the first start,
//!   which takes as much room once more, for as long as that lasts.
//!
//! # Leases
//!
//! A lease that is not renewed ends when its time is over, or up to a second later when there is a new leader: those
//! that have waited for one are renewed first. That time is counted by monotonic clocks, which nobody sets; a cluster
//! whose members all restart begins with what the leader has noted last, when half of a lease's time was over, and
//! every five minutes. A lease takes no more keys than can go with it in one change (128 MiB of keys, with what it
//! takes to keep them), and lasts for half as long again as the election timeout at least, two seconds by default.
//!
//! # What to watch
//!
//! | where | what it says |
//! |---|---|
//! | `GET /readyz` on the client port | 200: this member serves, with a quorum; give it clients only then |
//! | `GET /livez` | 200: the process works, with a quorum or without; restart it if not |
//! | `GET /readyz/serializable_read`, `/readyz?exclude=linearizable_read` | the same without a quorum, at once |
//! | `GET /health` | as etcd's |
//! | `GET /metrics` | for Prometheus, under etcd's names where it has the same |
//! | `--listen-metrics-urls` | where all of these are served too, with connections that clients cannot take |
//! | `paxos-kv status --cluster` | for each member: the leader it knows, the highest slot chosen and applied, the size of its store |
//! | `paxos-kv endpoint health --cluster` | whether each member reads with a quorum and has no alarm; exit code 1 if one has not |
//! | `paxos-kv check perf --load m` | whether the cluster carries 1,000 writes per second (of 1 KiB, for ten seconds), and how long they take |
//! | `etcdctl alarm list` | `NOSPACE`: a disk of that member is full |
//! | the log, `is damaged` | a disk has lost what was on it: replace the member, and the disk |
//! | the log, `there is no leader` | requests wait; more than a few seconds of it are an outage |
//! | the log, `a checkpoint` | the log up to `floor` is deleted; a line every ten seconds at most while there are changes |
//! | the log, `fetches a state`, `sends a state` | a member has missed more than the others' logs have, and gets what they hold; a line every five seconds says how far it is, `a state has been fetched` or `sent` that all has passed, `the state machine has taken over a state` that it is in place |
//! | the log, `no space left` | the member takes no writes until there is room, and goes on by itself then |
//! | the log, anything with `replace` | the member has lost or damaged what it must not forget, and has stopped; the line says what to do |
//!
//! A unit of systemd may say `Type=notify`: a member is ready once it is part of a quorum, asks for more time
//! while there is none, and says when it stops. `LimitNOFILE=` has to be 200 at least; what is above 150 is
//! what clients get.
//!
//! A member whose applied slot stays behind the chosen one is slow, mostly at its disk. Sizes grow with
//! history: compact it (`paxos-kv compact REVISION`, or `--keep 100000`); the room is used again by itself, and
//! `defragment` is answered at once because nothing is left for it to do.
//!
//! A member gets the log it has missed as long as the others have it, which is for one to two checkpoints.
//! One is due after `--snapshot-count` slots or `--snapshot-bytes` of the log, and done when the store is on
//! disk that far, which is every 16 MiB or 16,384 slots, or when nothing is written for a moment. With larger
//! values a member may be away for longer before it needs a state, which is worth it if the state is large. The
//! log takes up three to five times as much on the disk, and a start checks all of it, about a GiB in a second.
//!
//! Take a backup at least as often as you could bear to lose what was written since, keep several, and
//! restore one now and then to see that you can.
