//! The task that owns the replica.
//!
//! Each turn takes in everything that has gathered, up to a bound, steps the replica and carries out
//! the effects. What is done at once belongs to the same turn: a write to memory is reported and a
//! state machine that does not block has applied what was chosen before the turn ends. So under load a
//! turn is long and its batches are large, and an idle node sleeps until its replica's next deadline.

use std::{
    future::poll_fn,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::mpsc, time::Sleep};

use super::{
    applier::Position,
    board::{Board, Isolation},
    desk::{Desk, Lent},
    error::{NodeError, ProposeError, ReadError},
    inbox,
    lifecycle::Ending,
    log_reader::LogReader,
    machine::{Done, Machine},
    members::{self, AskedChange},
    reads::{Read, Reads},
    request::{Applied, Budget, Request, Submission, Waiter, cost, until},
    states::StateReader,
    transfer::AskedTransfer,
    waiters::Waiters,
    writer::{Progress, Writer},
};
use crate::{
    message::Message,
    port::{Event, StateMachine, Transport, WriteBatch},
    replica::{self, ChangeOutcome, Effects, Outcome, Proposal, Replica, TransferOutcome},
    types::{Instant, NodeId},
};

/// Messages taken in by one turn.
const MESSAGES_PER_TURN_MAX: usize = 512;

/// Messages taken over from the transport at once.
const EVENTS_AT_ONCE_MAX: usize = 64;

/// Bytes of values after which a turn takes over no more messages.
const MESSAGE_BYTES_PER_TURN_MAX: usize = 8 << 20;

/// Requests taken in by one turn.
const REQUESTS_PER_TURN_MAX: usize = 4096;

/// Between two looks for requests that nobody waits for any more: each goes through all that there are.
const ROOM_INTERVAL: Duration = Duration::from_millis(50);

/// What the replica of a node takes in.
type Input<S> = replica::Input<Waiter<<S as StateMachine>::Response>>;

/// What the driver is given.
pub(super) struct Wiring<S: StateMachine> {
    pub(super) replica: Replica<Waiter<S::Response>>,
    /// Every other node that is talked to.
    pub(super) peers: Vec<NodeId>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) writer: Writer,
    pub(super) log_reader: LogReader,
    pub(super) state_reader: StateReader<S::Snapshot>,
    pub(super) machine: Machine<S>,
    pub(super) requests: mpsc::UnboundedReceiver<Request<S>>,
    /// What waits in `requests`, in bytes.
    pub(super) budget: Arc<Budget>,
    pub(super) board: Board,
    /// How long the end may take.
    pub(super) patience: Duration,
    /// The origin of the replica's clock.
    pub(super) origin: tokio::time::Instant,
}

/// Where the driver lies while the state machine works in its turn.
pub(super) type DriversDesk<S> = Desk<Box<Driver<S>>, Done<S>>;

/// The task.
pub(super) struct Driver<S: StateMachine> {
    wiring: Wiring<S>,
    reads: Reads<S>,
    changes: Waiters<ChangeOutcome>,
    transfers: Waiters<TransferOutcome>,
    /// What the next step takes in.
    inputs: Vec<Input<S>>,
    arrived: Vec<Request<S>>,
    events: Vec<Event>,
    /// What the last step asked for; empty between two steps.
    effects: Effects,
    /// What goes to one node.
    outgoing: Vec<Message>,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires; a deadline that moves away leaves it as it is.
    armed: Option<Instant>,
    /// Whether there is something for the next step.
    is_stirred: bool,
    /// Nobody has a handle any more.
    is_closed: bool,
    asked_to_stop: bool,
    /// When room was made last.
    room_made: Option<Instant>,
    /// The transfer of the leadership that comes before the end.
    leaving: Option<u64>,
    /// What was to be done before the end has been done.
    is_over: bool,
}

impl<S: StateMachine> Driver<S> {
    pub(super) fn new(wiring: Wiring<S>) -> Box<Self> {
        Box::new(Driver {
            timer: Box::pin(tokio::time::sleep_until(wiring.origin)),
            wiring,
            reads: Reads::new(),
            changes: Waiters::default(),
            transfers: Waiters::default(),
            inputs: Vec::new(),
            arrived: Vec::new(),
            events: Vec::new(),
            effects: Effects::default(),
            outgoing: Vec::new(),
            armed: None,
            is_stirred: false,
            is_closed: false,
            asked_to_stop: false,
            room_made: None,
            leaving: None,
            is_over: false,
        })
    }

    /// Works until it is told to stop, nobody can use the node any more, or something fails. With a
    /// desk, it lies there while the state machine works, and may be taken away.
    async fn run(mut self: Box<Self>, desk: Option<&DriversDesk<S>>) -> Result<Parting, NodeError> {
        let ended = 'work: loop {
            self.arm_timer();
            if let Err(failed) = poll_fn(|cx| self.poll_gather(cx)).await {
                break Err(failed);
            }
            if self.is_over {
                break Ok(());
            }
            let now = self.now();
            self.take_requests(now);
            while self.is_stirred {
                if let Err(failed) = self.step(now) {
                    break 'work Err(failed);
                }
                let may_block = self.wiring.machine.is_suspected();
                let Some(job) = self.wiring.machine.next_job() else { continue };
                // To look at the clock costs as much as a small job.
                let begun = if may_block { self.now() } else { now };
                let done = match desk {
                    None => job.run(),
                    Some(desk) => match desk.lend(self, || job.run_aside(may_block)) {
                        Lent::Back(driver, done) => {
                            self = driver;
                            done
                        }
                        Lent::Taken => return Ok(Parting::Taken),
                    },
                };
                if let Err(failed) = self.on_done(begun, done) {
                    break 'work Err(failed);
                }
            }
            self.wiring.board.publish(&self.wiring.replica);
            tokio::task::consume_budget().await;
        };
        self.finish(ended).await.map(|()| Parting::Stopped)
    }

    /// Requests that wait are told by the closed channels; what is under way gets its end, if it comes to
    /// one in time.
    async fn finish(self: Box<Self>, ended: Result<(), NodeError>) -> Result<(), NodeError> {
        let Wiring { machine, writer, patience, .. } = self.wiring;
        let mut ending = Ending::begin(patience);
        let failed = match ended {
            Err(failed) => {
                ending.wait("its state machine", machine.halt()).await;
                Err(failed)
            }
            Ok(()) => {
                let machine = ending.wait("its state machine", machine.end()).await;
                let write = ending.wait("a write to its storage", writer.finish()).await;
                let write = write.map_or(Ok(()), |written| Ok(written?));
                machine.unwrap_or(Ok(())).and(write)
            }
        };
        failed.and(ending.end())
    }

    fn now(&self) -> Instant {
        Instant::from_origin(self.wiring.origin.elapsed())
    }

    /// Sets the timer to the next deadline, unless it fires before that anyhow.
    fn arm_timer(&mut self) {
        let Wiring { replica, machine, .. } = &self.wiring;
        let deadlines =
            [replica.next_deadline(), self.reads.next_deadline(), machine.next_deadline()];
        let Some(next) = deadlines.into_iter().flatten().min() else { return };
        if self.armed.is_some_and(|armed| armed <= next) {
            return;
        }
        // A deadline beyond what the clock can express never comes.
        if let Some(at) = self.wiring.origin.checked_add(next.since_origin()) {
            self.timer.as_mut().reset(at);
            self.armed = Some(next);
        }
    }

    /// Takes over what is there; pending if nothing is: what has said that it is ready wakes nobody
    /// until it is asked again, even if it had nothing for the replica.
    fn poll_gather(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NodeError>> {
        let mut has_come = self.is_over || !self.inputs.is_empty();
        if let Poll::Ready(progress) = self.wiring.writer.poll_progress(cx) {
            self.on_written(progress?);
            has_come = true;
        }
        if let Poll::Ready(position) = self.wiring.machine.poll_done(cx) {
            self.on_applied(position?);
            has_come = true;
        }
        while let Poll::Ready(outcome) = self.wiring.log_reader.poll_next(cx) {
            let (id, records) = outcome?;
            self.inputs.push(Input::<S>::LogRead { id, records });
            has_come = true;
        }
        while let Poll::Ready(outcome) = self.wiring.state_reader.poll_next(cx) {
            let (id, bytes) = outcome?;
            self.inputs.push(Input::<S>::StateRead { id, bytes });
            has_come = true;
        }
        has_come |= self.poll_transport(cx)?;
        let requests = &mut self.wiring.requests;
        if !self.is_closed
            && let Poll::Ready(count) =
                requests.poll_recv_many(cx, &mut self.arrived, REQUESTS_PER_TURN_MAX)
        {
            // Without any, the last handle is gone.
            self.is_closed = count == 0;
            self.asked_to_stop |= self.is_closed;
            has_come = true;
        }
        // A turn looks at its deadlines anyhow.
        if !has_come && self.armed.is_some() && self.timer.as_mut().poll(cx).is_ready() {
            self.armed = None;
            has_come = true;
        }
        if has_come { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Takes over what has arrived; returns whether anything has.
    fn poll_transport(&mut self, cx: &mut Context<'_>) -> Result<bool, NodeError> {
        let (mut messages, mut bytes) = (0, 0);
        let mut events = mem::take(&mut self.events);
        while messages < MESSAGES_PER_TURN_MAX && bytes < MESSAGE_BYTES_PER_TURN_MAX {
            let count = match self.wiring.transport.poll_recv(cx, &mut events, EVENTS_AT_ONCE_MAX) {
                Poll::Pending => break,
                Poll::Ready(0) => return Err(NodeError::TransportClosed),
                Poll::Ready(count) => count,
            };
            messages += count;
            bytes += events.drain(..).map(|event| self.on_event(event)).sum::<usize>();
            if count < EVENTS_AT_ONCE_MAX {
                // What comes from now on is for the next turn, which asks again.
                break;
            }
        }
        self.events = events;
        Ok(messages > 0)
    }

    /// Takes in an event; returns the bytes of the values in it.
    fn on_event(&mut self, event: Event) -> usize {
        match event {
            Event::Message { from, message } => {
                let bytes = inbox::payload_bytes(&message);
                self.inputs.push(Input::<S>::Message { from, message });
                return bytes;
            }
            Event::Met { peer, store } => {
                tracing::debug!(%peer, %store, "met a peer for the first time");
                let batch = WriteBatch { peers: [(peer, store)].into(), ..WriteBatch::default() };
                self.wiring.writer.push(None, batch);
            }
            Event::Lost { peer } => self.inputs.push(Input::<S>::Lost(peer)),
            // The transport has a line in the log for each.
            Event::Refused { .. } | Event::Admitted { .. } => {
                self.wiring.board.refused(self.wiring.transport.refusals());
            }
        }
        0
    }

    fn on_written(&mut self, progress: Progress) {
        match progress {
            Progress::Full => self.inputs.push(Input::<S>::DiskFull(true)),
            Progress::Written { last, room_again } => {
                self.inputs.extend(room_again.then_some(Input::<S>::DiskFull(false)));
                self.inputs.extend(last.map(Input::<S>::Persisted));
            }
        }
    }

    fn on_applied(&mut self, position: Option<Position>) {
        if let Some(Position { applied, durable }) = position {
            self.inputs.push(Input::<S>::Applied { slot: applied, durable });
        }
        let Wiring { machine, state_reader, .. } = &mut self.wiring;
        self.inputs.extend(machine.digests().map(Input::<S>::Digested));
        machine.snapshots().for_each(|(id, snapshot)| state_reader.add(id, snapshot));
    }

    /// Steps the replica once and carries out what it asks for, but for what the state machine is to
    /// do.
    fn step(&mut self, now: Instant) -> Result<(), NodeError> {
        self.is_stirred = false;
        self.wiring.replica.step_into(now, self.inputs.drain(..), &mut self.effects);
        self.carry_out()?;
        self.is_stirred = !self.inputs.is_empty();
        Ok(())
    }

    /// The state machine has done a job in this turn, which is timed from when it had `begun`.
    fn on_done(&mut self, begun: Instant, done: Done<S>) -> Result<(), NodeError> {
        let position = self.wiring.machine.finish(done)?;
        self.on_applied(position);
        self.is_stirred = !self.inputs.is_empty();
        let took = self.now().since(begun);
        self.wiring.machine.notice(took);
        Ok(())
    }

    /// Turns the requests that have arrived, and reads whose time is over, into inputs.
    fn take_requests(&mut self, now: Instant) {
        // Even if nothing has come in but the time.
        self.is_stirred = true;
        let board = &self.wiring.board;
        let late = || match board.isolation() {
            Some(Isolation { reason, .. }) => ReadError::Refused { reason },
            None => ReadError::Timeout,
        };
        while let Some(number) = self.reads.expire(now, late) {
            self.inputs.push(Input::<S>::GiveUpRead { number });
        }
        self.wiring.machine.expire(now);
        let mut arrived = mem::take(&mut self.arrived);
        self.make_room(now);
        let mut taken = 0;
        if let Some(Isolation { refused, reason }) = self.wiring.board.isolation()
            && refused == self.wiring.peers.len()
        {
            taken += refuse_all(&mut arrived, &reason);
        }
        for request in arrived.drain(..) {
            match request {
                Request::Propose(submission) => taken += self.take_submission(now, submission),
                Request::ProposeBatch(submissions) => {
                    taken += submissions
                        .into_iter()
                        .map(|submission| self.take_submission(now, submission))
                        .sum::<usize>();
                }
                Request::Read { task, mode, timeout } => {
                    let number = self.reads.add(Read::new(task, now, timeout));
                    self.inputs.push(Input::<S>::Read { number, mode });
                }
                Request::ChangeMembers(AskedChange { change, timeout, reply }) => {
                    let (number, deadline) = (self.changes.wait(reply), until(now, timeout));
                    self.inputs.push(Input::<S>::Change { number, change, deadline });
                }
                Request::TransferLeadership(AskedTransfer { to, timeout, reply }) => {
                    let (number, deadline) = (self.transfers.wait(reply), until(now, timeout));
                    self.inputs.push(Input::<S>::Transfer { number, to, deadline });
                }
                Request::ShutDown => self.asked_to_stop = true,
            }
        }
        self.arrived = arrived;
        self.wiring.budget.give_back(taken);
        if self.asked_to_stop && self.leaving.is_none() {
            self.leave(now);
        }
    }

    /// Before the end, somebody else is to lead, if this node does.
    fn leave(&mut self, now: Instant) {
        let (number, deadline) = (self.transfers.number(), now.after(self.wiring.patience));
        self.leaving = Some(number);
        self.inputs.push(Input::<S>::Transfer { number, to: None, deadline });
    }

    /// Lets those requests go that nobody waits for any more, before others are refused for them.
    fn make_room(&mut self, now: Instant) {
        if self.room_made.is_some_and(|made| now < made.after(ROOM_INTERVAL)) {
            return;
        }
        if self.wiring.replica.is_crowded() {
            self.room_made = Some(now);
            self.wiring.replica.let_go(|waiter| waiter.reply.is_closed());
        }
        if self.reads.is_crowded() {
            self.room_made = Some(now);
            let gone = self.reads.let_go().into_iter();
            self.inputs.extend(gone.map(|number| Input::<S>::GiveUpRead { number }));
        }
    }

    /// Takes in a command; returns what it took of the budget.
    fn take_submission(&mut self, now: Instant, submission: Submission<S::Response>) -> usize {
        let Submission { id, command, timeout, reply } = submission;
        let cost = cost(&command);
        let deadline = until(now, timeout);
        let waiter = Waiter { reply, is_named: id.is_some() };
        let proposal = Proposal { id, command, deadline, waiter };
        self.inputs.push(Input::<S>::Propose(proposal));
        cost
    }

    fn carry_out(&mut self) -> Result<(), NodeError> {
        self.wiring.board.publish_membership(&self.wiring.replica);
        if let Some(halt) = self.effects.halt.take() {
            return Err(halt.into());
        }
        if let Some(peers) = self.effects.peers.take() {
            self.wiring.peers = members::talk_to(peers, &*self.wiring.transport);
        }
        for (number, outcome) in self.effects.changes.drain(..) {
            self.changes.ended(number, outcome);
        }
        for (number, outcome) in self.effects.transfers.drain(..) {
            self.is_over |= self.leaving == Some(number);
            self.transfers.ended(number, outcome);
        }
        self.send();
        if let Some((id, batch)) = self.effects.persist.take() {
            self.wiring.writer.push(Some(id), batch);
            while let Some(progress) = self.wiring.writer.take_done() {
                self.on_written(progress?);
            }
        }
        for read in self.effects.log_reads.drain(..) {
            self.wiring.log_reader.push(read);
        }
        for snapshot in self.effects.let_go.drain(..) {
            self.wiring.state_reader.let_go(snapshot);
        }
        for read in self.effects.state_reads.drain(..) {
            self.wiring.state_reader.push(read);
        }
        self.answer()?;
        for number in self.effects.reads_refused.drain(..) {
            if let Some(read) = self.reads.take(number) {
                read.task.refuse(ReadError::Busy);
            }
        }
        let machine = &mut self.wiring.machine;
        machine.tasks().append(&mut self.effects.tasks);
        let ready = self.effects.reads_ready.drain(..);
        ready.filter_map(|number| self.reads.take(number)).for_each(|read| machine.read(read));
        Ok(())
    }

    /// Sends what the step has for each node in one call.
    fn send(&mut self) {
        let (effects, transport) = (&mut self.effects, &self.wiring.transport);
        if !effects.broadcast.is_empty() {
            transport.send(&self.wiring.peers, &mut effects.broadcast);
        }
        while let Some(&(to, _)) = effects.send.first() {
            let same = effects.send.extract_if(.., |sent| sent.0 == to);
            self.outgoing.extend(same.map(|(_, message)| message));
            transport.send(&[to], &mut self.outgoing);
        }
    }

    /// Gives those their answers who have waited for them.
    fn answer(&mut self) -> Result<(), NodeError> {
        let responses = self.wiring.machine.responses();
        for (Waiter { reply, is_named }, outcome) in self.wiring.replica.answers() {
            let answer = match outcome {
                Outcome::Refused(refusal) => Err(refusal.into()),
                Outcome::Unknown => Err(match self.wiring.board.isolation() {
                    Some(Isolation { reason, .. }) => ProposeError::Refused { reason },
                    None => ProposeError::UnknownOutcome,
                }),
                Outcome::Applied { slot, index } => {
                    while responses.pop_front_if(|responses| responses.slot() < slot).is_some() {}
                    let responses = responses.front_mut().filter(|r| r.slot() == slot);
                    let response = responses
                        .expect("every slot with commands is answered")
                        .take(index, is_named)?;
                    response.map(|response| Applied { response, slot })
                }
            };
            // Whoever has stopped waiting does not hear it.
            drop(reply.send(answer));
        }
        // The replica knows by now that these slots are applied: nobody asks for the rest.
        responses.clear();
        Ok(())
    }
}

/// Refuses what only a leader could serve, since all peers are refused, for this reason; returns what it took of
/// the budget.
fn refuse_all<S: StateMachine>(arrived: &mut Vec<Request<S>>, reason: &str) -> usize {
    let mut taken = 0;
    let mut refuse = |Submission { command, reply, .. }: Submission<S::Response>| {
        taken += cost(&command);
        drop(reply.send(Err(ProposeError::Refused { reason: reason.to_owned() })));
    };
    let needs_leader = |request: &mut Request<S>| match request {
        Request::Propose(_) | Request::ProposeBatch(_) => true,
        Request::Read { mode, .. } => mode.needs_leader(),
        Request::ChangeMembers(_) | Request::TransferLeadership(_) | Request::ShutDown => false,
    };
    for request in arrived.extract_if(.., needs_leader) {
        match request {
            Request::Propose(submission) => refuse(submission),
            Request::ProposeBatch(submissions) => submissions.into_iter().for_each(&mut refuse),
            Request::Read { task, .. } => {
                task.refuse(ReadError::Refused { reason: reason.to_owned() });
            }
            Request::ChangeMembers(_) | Request::TransferLeadership(_) | Request::ShutDown => {
                unreachable!("not among those that are refused")
            }
        }
    }
    taken
}

/// Why a task has the driver no longer.
enum Parting {
    Stopped,
    /// Another task goes on with it.
    Taken,
}

/// The task of a driver that nobody takes away.
pub(super) async fn drive<S: StateMachine>(driver: Box<Driver<S>>) -> Result<(), NodeError> {
    driver.run(None).await.map(drop)
}

/// One of the two tasks at a desk: works on the driver while it has it, and waits for it when it has
/// not. The one that has it in the end returns; the other one never does.
pub(super) async fn take_turns<S: StateMachine>(
    desk: Arc<DriversDesk<S>>,
    mut driver: Option<Box<Driver<S>>>,
) -> Result<(), NodeError> {
    loop {
        let driver = match driver.take() {
            Some(driver) => driver,
            None => {
                let (mut driver, done) = desk.watch().await;
                driver.wiring.machine.let_go(done, desk.patience());
                driver
            }
        };
        match driver.run(Some(&desk)).await? {
            Parting::Stopped => return Ok(()),
            // What blocked here is done: this task can look after the other one.
            Parting::Taken => {}
        }
    }
}
