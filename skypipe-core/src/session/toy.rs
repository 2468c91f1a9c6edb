//! A broker as small as the session's tests allow: it keeps everything in memory, has one reader, and is exact about
//! what a broker may assume of its clients. What they do wrong makes it panic.

use crate::batch::{Batch, EndKind};
use crate::broker::{Ack, ReaderAttach, ReaderDown, ReaderUp, WriterAttach, WriterDown, WriterUp, WriterWelcome};
use crate::error::{Code, Error};
use crate::id::{Epoch, Position, Seq, SessionId};

/// Bytes a writer may have on its way: little, so that credit runs out often.
pub(crate) const TOY_CREDIT: u64 = 700;

pub(crate) struct Item {
    pub(crate) session: SessionId,
    pub(crate) batches: Vec<Batch>,
    pub(crate) end: Option<EndKind>,
    /// The next number to send over this reader's link.
    sent: Seq,
    end_sent: bool,
    /// Acknowledged by the reader.
    acked: Seq,
}

#[derive(Default)]
pub(crate) struct Toy {
    pub(crate) items: Vec<Item>,
    writer_epoch: Epoch,
    /// Bytes a writer may have on its way beyond [`TOY_CREDIT`].
    pub(crate) extra_credit: u64,
    writer_credit: i64,
    writer_grant: u64,
    writer_told: Ack,
    writer_expired: bool,
    reader: Option<(SessionId, Epoch)>,
    reader_expired: bool,
    reader_credit: i64,
    leaving: bool,
    pub(crate) finished: bool,
}

impl Item {
    fn next(&self) -> Seq {
        self.batches.last().map_or(Seq(0), Batch::next)
    }

    fn is_done(&self) -> bool {
        self.end.is_some() && self.acked >= self.next()
    }
}

impl Toy {
    /// The writer was away too long.
    pub(crate) fn forget_writer(&mut self) {
        if let Some(item) = self.items.last_mut().filter(|item| item.end.is_none()) {
            item.end = Some(EndKind::Aborted);
            self.writer_expired = true;
        }
    }

    /// The reader was away too long.
    pub(crate) fn forget_reader(&mut self) {
        self.reader_expired = self.reader.is_some();
    }

    pub(crate) fn attach_writer(&mut self, attach: &WriterAttach) -> Result<WriterWelcome, Error> {
        let known = self.items.last().is_some_and(|item| item.session == attach.session);
        if attach.resume.is_some()
            && (!known || self.writer_expired)
            && self.items.iter().any(|i| i.session == attach.session)
        {
            return Err(Error::new(Code::SessionExpired, "away too long"));
        }
        if !known {
            let (sent, acked) = (Seq(0), Seq(0));
            self.items.push(Item { session: attach.session, batches: vec![], end: None, sent, end_sent: false, acked });
            (self.writer_epoch, self.writer_expired) = (Epoch(0), false);
        }
        assert!(attach.epoch > self.writer_epoch, "an epoch came twice");
        self.writer_epoch = attach.epoch;
        let credit = TOY_CREDIT + self.extra_credit;
        (self.writer_credit, self.writer_grant) = (credit as i64, 0);
        self.writer_told = self.ack();
        let next = self.items.last().map_or(Seq(0), Item::next);
        let resume = attach.resume.unwrap_or_default();
        assert!(resume.settled <= next && resume.stored <= next, "it claims what was never acknowledged");
        Ok(WriterWelcome { next, ack: self.writer_told, credit, readers: 0, mode: Default::default() })
    }

    pub(crate) fn writer_up(&mut self, up: WriterUp) {
        let WriterUp::Batch(batch) = up else {
            return self.forget_writer();
        };
        assert!(self.writer_credit > 0, "sent without credit");
        self.writer_credit -= batch.encoded().len() as i64;
        self.writer_grant += batch.encoded().len() as u64;
        let item = self.items.last_mut().expect("it attached");
        assert_eq!(item.session, batch.session());
        if batch.next() <= item.next() {
            assert!(item.batches.contains(&batch), "the same numbers with other bytes");
            return;
        }
        assert_eq!(batch.first(), item.next(), "a hole");
        item.end = batch.end().map(|mark| mark.kind);
        item.batches.push(batch);
    }

    pub(crate) fn next_for_writer(&mut self) -> Option<WriterDown> {
        let ack = self.ack();
        if ack != self.writer_told {
            self.writer_told = ack;
            return Some(WriterDown::Ack(ack));
        }
        let grant = std::mem::take(&mut self.writer_grant);
        self.writer_credit += grant as i64;
        (grant > 0).then_some(WriterDown::Credit(grant))
    }

    pub(crate) fn attach_reader(&mut self, attach: &ReaderAttach) -> Result<(), Error> {
        let known = self.reader.is_some_and(|(session, _)| session == attach.session);
        if known && self.reader_expired {
            return Err(Error::new(Code::SessionExpired, "away too long"));
        }
        self.reader_credit = attach.credit as i64;
        assert!(!known || self.reader.is_some_and(|(_, epoch)| attach.epoch > epoch), "an epoch came twice");
        (self.reader, self.reader_expired) = (Some((attach.session, attach.epoch)), false);
        for item in &mut self.items {
            let cursor = attach.resume.iter().flatten().find(|cursor| cursor.writer == item.session);
            item.sent = cursor.map_or(item.acked, |cursor| cursor.next);
            item.end_sent = item.is_done();
        }
        Ok(())
    }

    pub(crate) fn reader_up(&mut self, up: ReaderUp) {
        match up {
            ReaderUp::Credit(bytes) => self.reader_credit += bytes as i64,
            ReaderUp::Leave { .. } => self.leaving = true,
            ReaderUp::AckTo(_)
            | ReaderUp::Settle { .. }
            | ReaderUp::Prefetch(_)
            | ReaderUp::Of(_)
            | ReaderUp::Had(_)
            | ReaderUp::HadAll => unreachable!("the toy has no tape"),
            ReaderUp::Ack(cursor) => {
                if let Some(item) = self.items.iter_mut().find(|item| item.session == cursor.writer) {
                    assert!(cursor.next <= item.next().plus(1), "it acknowledged what never was");
                    item.acked = item.acked.max(cursor.next);
                }
            }
        }
    }

    pub(crate) fn next_for_reader(&mut self) -> Option<ReaderDown> {
        if let Some(down) = self.items.iter_mut().find_map(|item| item.next_for_reader(&mut self.reader_credit)) {
            return Some(down);
        }
        let last_ended = self.items.last().is_some_and(|item| matches!(item.end, Some(EndKind::Finished)));
        let all_read = last_ended && self.items.iter().all(Item::is_done);
        ((all_read || self.leaving) && !std::mem::replace(&mut self.finished, true)).then_some(ReaderDown::Finished)
    }

    /// The reader's link broke: `Finished` may not have arrived.
    pub(crate) fn reader_cut(&mut self) {
        self.finished = false;
    }

    fn ack(&self) -> Ack {
        let Some(item) = self.items.last() else { return Ack::default() };
        Ack { settled: item.next(), stored: item.next(), delivered: item.acked.min(item.next()) }
    }
}

impl Item {
    fn next_for_reader(&mut self, credit: &mut i64) -> Option<ReaderDown> {
        if let Some(batch) = self.batches.iter().find(|batch| batch.next() > self.sent) {
            if *credit <= 0 {
                return None;
            }
            *credit -= batch.encoded().len() as i64;
            let from = self.sent;
            self.sent = batch.next();
            return Some(ReaderDown::Batch { from, position: Position::default(), batch: batch.clone() });
        }
        let kind = self.end.filter(|_| !std::mem::replace(&mut self.end_sent, self.end.is_some()))?;
        let next = if kind == EndKind::Aborted { self.next().plus(1) } else { self.next() };
        Some(ReaderDown::ItemEnd { writer: self.session, kind, next, alone: false })
    }
}

#[cfg(feature = "host")]
pub(crate) mod host {
    //! The toy as a [`Broker`] for the drivers' tests.

    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex, MutexGuard};
    use std::task::{Poll, Waker};

    use async_trait::async_trait;
    use futures::{sink, stream};

    use super::Toy;
    use crate::broker::*;
    use crate::caller::Caller;
    use crate::error::{Code, Error};
    use crate::name::PipeRef;
    use crate::stat::PipeStat;

    #[derive(Default)]
    pub(crate) struct Inside {
        pub(crate) toy: Toy,
        /// The next answers to attaches, before the toy is asked at all.
        pub(crate) refusals: VecDeque<Code>,
        /// Nobody answers while this holds.
        pub(crate) is_down: bool,
        /// Cut all links at the message with each of these numbers.
        pub(crate) cuts: Vec<u64>,
        pub(crate) messages: u64,
        pub(crate) attaches: u64,
        links: u64,
        wakers: Vec<Waker>,
    }

    #[derive(Clone, Default)]
    pub(crate) struct ToyBroker(pub(crate) Arc<Mutex<Inside>>);

    fn cut_error() -> Error {
        Error::new(Code::Disconnected, "cut")
    }

    impl Inside {
        pub(crate) fn cut(&mut self) {
            self.links += 1;
            self.toy.reader_cut();
            self.wake();
        }

        fn wake(&mut self) {
            self.wakers.drain(..).for_each(Waker::wake);
        }

        /// Counts a message; false when it is lost with its link.
        fn passes(&mut self) -> bool {
            self.messages += 1;
            let cut = self.cuts.contains(&self.messages);
            if cut {
                self.cut();
            }
            !cut
        }

        fn refuse(&mut self) -> Result<(), Error> {
            self.attaches += 1;
            if self.is_down {
                return Err(Error::new(Code::Unreachable, "nobody there"));
            }
            match self.refusals.pop_front() {
                Some(code) => Err(Error::new(code, "refused")),
                None if self.passes() => Ok(()),
                None => Err(cut_error()),
            }
        }
    }

    impl ToyBroker {
        pub(crate) fn lock(&self) -> MutexGuard<'_, Inside> {
            self.0.lock().expect("no panic inside")
        }

        fn up<T: Send + 'static>(&self, link: u64, take: fn(&mut Toy, T)) -> UpSink<T> {
            let broker = self.clone();
            Box::pin(sink::unfold(broker, move |broker, message| async move {
                let mut inside = broker.lock();
                if inside.links != link || !inside.passes() {
                    return Err(cut_error());
                }
                take(&mut inside.toy, message);
                inside.wake();
                drop(inside);
                Ok(broker)
            }))
        }

        fn down<T: Send + 'static>(&self, link: u64, give: fn(&mut Toy) -> Option<T>) -> DownStream<T> {
            let broker = self.clone();
            Box::pin(stream::poll_fn(move |cx| {
                let mut inside = broker.lock();
                if inside.links != link {
                    return Poll::Ready(Some(Err(cut_error())));
                }
                match give(&mut inside.toy) {
                    Some(message) if inside.passes() => Poll::Ready(Some(Ok(message))),
                    Some(_) => Poll::Ready(Some(Err(cut_error()))),
                    None => {
                        inside.wakers.push(cx.waker().clone());
                        Poll::Pending
                    }
                }
            }))
        }
    }

    #[async_trait]
    impl Broker for ToyBroker {
        fn features(&self) -> Features {
            Features::default()
        }

        async fn attach_writer(&self, _: &Caller, _: &PipeRef, attach: WriterAttach) -> Result<WriterHalves, Error> {
            let (welcome, link) = {
                let mut inside = self.lock();
                inside.refuse()?;
                let welcome = inside.toy.attach_writer(&attach)?;
                inside.wake();
                if !inside.passes() {
                    return Err(cut_error());
                }
                (welcome, inside.links)
            };
            Ok(WriterHalves { welcome, up: self.up(link, Toy::writer_up), down: self.down(link, Toy::next_for_writer) })
        }

        async fn attach_reader(&self, _: &Caller, _: &PipeRef, attach: ReaderAttach) -> Result<ReaderHalves, Error> {
            let link = {
                let mut inside = self.lock();
                inside.refuse()?;
                inside.toy.attach_reader(&attach)?;
                if !inside.passes() {
                    return Err(cut_error());
                }
                inside.links
            };
            Ok(ReaderHalves {
                welcome: Default::default(),
                up: self.up(link, Toy::reader_up),
                down: self.down(link, Toy::next_for_reader),
            })
        }

        async fn list(&self, _: &Caller, _: ListQuery) -> Result<ListPage, Error> {
            Ok(ListPage::default())
        }

        async fn stat(&self, _: &Caller, pipe: &PipeRef) -> Result<PipeStat, Error> {
            Ok(PipeStat::empty(pipe.path.clone(), Mode::Default))
        }

        async fn remove(&self, _: &Caller, _: &PipeRef) -> Result<(), Error> {
            Ok(())
        }
    }
}
