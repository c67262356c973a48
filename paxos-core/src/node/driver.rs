//! The loop that owns the replica.
//!
//! Each pass waits for anything to happen, takes in everything else that has gathered up to a
//! bound, steps the replica once and carries out the effects. So under load a pass is long and its
//! batches are large, and an idle node sleeps until its replica's next deadline.

use std::{
    collections::BTreeMap,
    future::{self, Future},
    mem,
    pin::Pin,
    sync::Arc,
};

use futures::FutureExt;
use tokio::{
    sync::{mpsc, watch},
    time::Sleep,
};

use super::{
    applier::{Applied, Packet, Work},
    error::{NodeError, ProposeError, ReadError},
    handle::Leadership,
    inbox::{self, RefusalLog},
    log_reader::LogReader,
    request::{Proposal, Request},
    waiters::Waiters,
    writer::{Progress, Writer},
};
use crate::{
    message::{Message, Record},
    port::{Event, StateMachine, StorageError, Transport, WriteBatch},
    replica::{Effects, Input, LogReadId, Replica, Status},
    types::{ClientId, Instant, NodeId, RequestId, Value},
};

/// Messages taken in by one pass.
const MESSAGES_PER_PASS_MAX: usize = 512;

/// Messages taken over from the transport at once.
const EVENTS_AT_ONCE_MAX: usize = 64;

/// Bytes of values after which a pass takes over no more messages.
const MESSAGE_BYTES_PER_PASS_MAX: usize = 8 << 20;

/// Requests taken in by one pass.
const REQUESTS_PER_PASS_MAX: usize = 4096;

/// What the driver is given.
pub(super) struct Wiring<S: StateMachine> {
    pub(super) replica: Replica,
    pub(super) client: ClientId,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) writer: Writer,
    pub(super) log_reader: LogReader,
    pub(super) requests: mpsc::Receiver<Request<S>>,
    pub(super) shutdown: watch::Receiver<bool>,
    pub(super) packets: mpsc::UnboundedSender<Packet<S>>,
    pub(super) applied: watch::Receiver<Applied>,
    pub(super) status: watch::Sender<Status>,
    pub(super) leadership: watch::Sender<Leadership>,
    /// The origin of the replica's clock.
    pub(super) origin: tokio::time::Instant,
}

/// The task.
pub(super) struct Driver<S: StateMachine> {
    wiring: Wiring<S>,
    waiters: Waiters<S>,
    refusals: RefusalLog,
    /// What the next step takes in.
    inputs: Vec<Input>,
    arrived: Vec<Request<S>>,
    /// What has been taken over from the transport.
    events: Vec<Event>,
    /// What a step sends, by recipient; empty between two steps.
    outgoing: BTreeMap<NodeId, Vec<Message>>,
    message_bytes: usize,
    messages: usize,
    sequence: u64,
    read_number: u64,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires; a deadline that moves away leaves it as it is.
    armed: Option<Instant>,
}

/// Whether the loop goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Step,
    Stop,
}

impl<S: StateMachine> Driver<S> {
    pub(super) fn new(wiring: Wiring<S>) -> Self {
        Driver {
            timer: Box::pin(tokio::time::sleep_until(wiring.origin)),
            wiring,
            waiters: Waiters::new(),
            refusals: RefusalLog::default(),
            inputs: Vec::new(),
            arrived: Vec::new(),
            events: Vec::new(),
            outgoing: BTreeMap::new(),
            message_bytes: 0,
            messages: 0,
            sequence: 0,
            read_number: 0,
            armed: None,
        }
    }

    /// Works until it is told to stop, nobody can use the node any more, or something fails.
    pub(super) async fn run(mut self) -> Result<(), NodeError> {
        while self.wait().await? == Next::Step {
            let is_full = self.gather()?;
            let now = self.now();
            self.take_requests(now);
            self.waiters.expire(now, &mut self.inputs);
            if self.wiring.replica.next_deadline().is_some_and(|deadline| deadline <= now) {
                self.inputs.push(Input::Tick);
            }
            let effects = self.wiring.replica.step_all(now, self.inputs.drain(..));
            self.carry_out(effects)?;
            self.publish(now);
            if is_full {
                tokio::task::yield_now().await;
            }
        }
        // Requests that wait are told by the closed channels; what is under way gets its end.
        self.wiring.writer.finish().await?;
        Ok(())
    }

    fn now(&self) -> Instant {
        Instant::from_origin(self.wiring.origin.elapsed())
    }

    /// Waits until there is something for the replica.
    async fn wait(&mut self) -> Result<Next, NodeError> {
        self.arm_timer();
        let wiring = &mut self.wiring;
        tokio::select! {
            biased;
            () = asked_to_stop(&mut wiring.shutdown) => return Ok(Next::Stop),
            progress = wiring.writer.progress() => self.on_written(progress?),
            changed = wiring.applied.changed() => match changed {
                Ok(()) => self.on_applied(),
                // The applier has failed, and tells why itself.
                Err(_) => return Ok(Next::Stop),
            },
            count = events(&*wiring.transport, &mut self.events) => self.on_events(count)?,
            count = wiring.requests.recv_many(&mut self.arrived, REQUESTS_PER_PASS_MAX) => {
                if count == 0 {
                    return Ok(Next::Stop);
                }
            }
            outcome = wiring.log_reader.next() => self.on_log_read(outcome)?,
            () = self.timer.as_mut(), if self.armed.is_some() => self.armed = None,
        }
        Ok(Next::Step)
    }

    /// Sets the timer to the next deadline, unless it fires before that anyhow.
    fn arm_timer(&mut self) {
        let deadlines = [self.wiring.replica.next_deadline(), self.waiters.next_deadline()];
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

    /// Takes in what else is there, without waiting; says whether there may be more.
    fn gather(&mut self) -> Result<bool, NodeError> {
        while let Some(progress) = self.wiring.writer.progress().now_or_never() {
            self.on_written(progress?);
        }
        if self.wiring.applied.has_changed().unwrap_or(false) {
            self.on_applied();
        }
        while let Some(outcome) = self.wiring.log_reader.next().now_or_never() {
            self.on_log_read(outcome)?;
        }
        let messages_end = loop {
            if self.messages >= MESSAGES_PER_PASS_MAX
                || self.message_bytes >= MESSAGE_BYTES_PER_PASS_MAX
            {
                break false;
            }
            let Some(count) = events(&*self.wiring.transport, &mut self.events).now_or_never()
            else {
                break true;
            };
            self.on_events(count)?;
        };
        self.messages = 0;
        self.message_bytes = 0;
        let requests_end = self.gather_requests();
        Ok(!(messages_end && requests_end))
    }

    /// Says whether that was all.
    fn gather_requests(&mut self) -> bool {
        while self.arrived.len() < REQUESTS_PER_PASS_MAX {
            match self.wiring.requests.try_recv() {
                Ok(request) => self.arrived.push(request),
                Err(_) => return true,
            }
        }
        false
    }

    fn on_written(&mut self, progress: Progress) {
        match progress {
            Progress::Full => self.inputs.push(Input::DiskFull(true)),
            Progress::Written { last, room_again } => {
                self.inputs.extend(room_again.then_some(Input::DiskFull(false)));
                self.inputs.extend(last.map(Input::Persisted));
            }
        }
    }

    fn on_applied(&mut self) {
        let Applied { slot, durable } = *self.wiring.applied.borrow_and_update();
        self.inputs.push(Input::Applied { slot, durable });
    }

    fn on_log_read(
        &mut self,
        outcome: Result<(LogReadId, Vec<Record>), StorageError>,
    ) -> Result<(), NodeError> {
        let (id, records) = outcome?;
        self.inputs.push(Input::LogRead { id, records });
        Ok(())
    }

    fn on_events(&mut self, count: usize) -> Result<(), NodeError> {
        if count == 0 {
            return Err(NodeError::TransportClosed);
        }
        let mut events = mem::take(&mut self.events);
        events.drain(..).for_each(|event| self.on_event(event));
        self.events = events;
        Ok(())
    }

    fn on_event(&mut self, event: Event) {
        self.messages += 1;
        match event {
            Event::Message { from, message } => {
                // The network may lose messages, so the node may: better than to grow.
                if self.wiring.writer.is_overloaded() && inbox::carries_values(&message) {
                    return;
                }
                self.message_bytes += inbox::payload_bytes(&message);
                self.inputs.push(Input::Message { from, message });
            }
            Event::Met { peer, store } => {
                tracing::info!(%peer, %store, "met a peer for the first time");
                let batch = WriteBatch { peers: [(peer, store)].into(), ..WriteBatch::default() };
                self.wiring.writer.push(None, batch);
            }
            Event::Refused { peer, reason } => {
                let now = self.now();
                self.refusals.refused(now, peer, &reason);
            }
        }
    }

    /// Turns the requests that have arrived into inputs.
    fn take_requests(&mut self, now: Instant) {
        let mut arrived = mem::take(&mut self.arrived);
        for request in arrived.drain(..) {
            match request {
                Request::Propose(proposal, share) => {
                    drop(share);
                    self.take_proposal(now, proposal);
                }
                Request::ProposeBatch(proposals, share) => {
                    drop(share);
                    for proposal in proposals {
                        self.take_proposal(now, proposal);
                    }
                }
                Request::Read { task, timeout } => {
                    self.read_number += 1;
                    let number = self.read_number;
                    self.waiters.add_read(number, task, now, timeout);
                    self.inputs.push(Input::Read { number });
                }
            }
        }
        self.arrived = arrived;
    }

    fn take_proposal(&mut self, now: Instant, proposal: Proposal<S::Response>) {
        let Proposal { id, command, timeout, reply } = proposal;
        let id = id.unwrap_or_else(|| {
            self.sequence += 1;
            RequestId { client: self.wiring.client, sequence: self.sequence }
        });
        let refusal = if self.wiring.writer.is_overloaded() {
            Some(ProposeError::Busy)
        } else {
            self.waiters.is_waiting(id).then_some(ProposeError::IdUsed)
        };
        if let Some(refusal) = refusal {
            drop(reply.send(Err(refusal)));
            return;
        }
        self.waiters.add_proposal(id, reply, now, timeout);
        self.inputs.push(Input::Propose { id, command });
    }

    fn carry_out(&mut self, effects: Effects) -> Result<(), NodeError> {
        if let Some(halt) = effects.halt {
            return Err(halt.into());
        }
        for (to, message) in effects.send {
            self.outgoing.entry(to).or_default().push(message);
        }
        for (to, messages) in self.outgoing.iter_mut().filter(|(_, messages)| !messages.is_empty())
        {
            self.wiring.transport.send(&[*to], messages);
        }
        if let Some((id, batch)) = effects.persist {
            self.wiring.writer.push(Some(id), batch);
        }
        for read in effects.log_reads {
            self.wiring.log_reader.push(read);
        }
        for (id, refusal) in effects.refused {
            if let Some(reply) = self.waiters.take_proposal(id) {
                drop(reply.send(Err(refusal.into())));
            }
        }
        for number in effects.reads_refused {
            if let Some(task) = self.waiters.take_read(number) {
                task(Err(ReadError::Busy));
            }
        }
        let through = effects.deliver.last().map(|delivery| delivery.slot);
        let mut work = Vec::with_capacity(effects.deliver.len());
        for delivery in effects.deliver {
            if matches!(delivery.value, Value::Batch(_)) {
                let answers = self.waiters.settle(&delivery);
                work.push(Work { delivery, answers });
            }
        }
        let ready = effects.reads_ready.into_iter();
        let reads: Vec<_> = ready.filter_map(|number| self.waiters.take_read(number)).collect();
        if through.is_some() || !reads.is_empty() {
            // If the applier is gone, the next wait notices and ends the node.
            drop(self.wiring.packets.send(Packet { work, through, reads }));
        }
        Ok(())
    }

    fn publish(&self, now: Instant) {
        let status = self.wiring.replica.status(now);
        let leadership = Leadership { leader: status.leader, ballot: status.ballot };
        self.wiring.leadership.send_if_modified(|last| {
            let changed = *last != leadership;
            if changed && last.leader != leadership.leader {
                let leader = leadership.leader.map(|id| id.0);
                tracing::info!(leader, ballot = %leadership.ballot, "leadership has changed");
            }
            *last = leadership;
            changed
        });
        self.wiring.status.send_replace(status);
    }
}

/// Waits for events and takes over those that are there; none only once the transport is closed.
/// Cancel safe.
fn events(transport: &dyn Transport, events: &mut Vec<Event>) -> impl Future<Output = usize> {
    future::poll_fn(move |cx| transport.poll_recv(cx, events, EVENTS_AT_ONCE_MAX))
}

/// Waits until a handle asks, or the last one is gone.
async fn asked_to_stop(shutdown: &mut watch::Receiver<bool>) {
    drop(shutdown.wait_for(|asked| *asked).await);
}
