//! The access check: a broker around a broker.

use std::sync::Arc;

use async_trait::async_trait;

use crate::broker::{Broker, Features, ListPage, ListQuery, ReaderAttach, ReaderHalves, WriterAttach, WriterHalves};
use crate::caller::{Caller, Rights};
use crate::error::{Code, Error};
use crate::gatekeeper::Gatekeeper;
use crate::name::{Owner, Pattern, PatternRef, PipeRef};
use crate::stat::PipeStat;

/// Lets each caller do what its grants allow, and nothing else, and says what the owner of the pipe may have. It resolves whose pipe is meant: a name without owner is one of
/// the caller's namespace, and a key of the relay's owner means the relay owner's pipes.
///
/// A pipe that is forbidden is refused before it is looked for, so nobody learns from here whether it exists.
pub struct Access {
    broker: Arc<dyn Broker>,
    gatekeeper: Arc<dyn Gatekeeper>,
}

impl Access {
    /// Guards `broker` by what `gatekeeper` knows.
    pub fn new(broker: Arc<dyn Broker>, gatekeeper: Arc<dyn Gatekeeper>) -> Self {
        Self { broker, gatekeeper }
    }

    fn owner(&self, caller: &Caller, owner: Owner) -> Owner {
        match owner.0 {
            None => caller.namespace,
            Some(key) => self.gatekeeper.owner(crate::identity::PublicKey(key)),
        }
    }

    /// The pipe that is meant, and the caller with its rights to it, if they allow `what`.
    fn admit(
        &self,
        caller: &Caller,
        pipe: &PipeRef,
        what: impl Fn(&Rights) -> bool,
    ) -> Result<(Caller, PipeRef), Error> {
        let pipe = PipeRef { owner: self.owner(caller, pipe.owner), path: pipe.path.clone() };
        let rights = caller.rights_to(&pipe);
        if !what(&rights) {
            return Err(no_access());
        }
        let limits = Some(self.gatekeeper.limits(pipe.owner));
        Ok((Caller { rights, limits, ..caller.clone() }, pipe))
    }

    /// What of the owner's pipes the caller may read; none says all.
    fn readable(caller: &Caller, owner: Owner) -> Option<Vec<Pattern>> {
        let Some(grants) = &caller.grants else {
            return (owner != caller.namespace).then(Vec::new);
        };
        let granted = grants.iter().filter(|grant| grant.owner == owner && grant.rights.read);
        Some(granted.map(|grant| grant.pattern.clone()).collect())
    }

    /// What the caller may see of a page.
    fn seen(caller: &Caller, owner: Owner, mut page: ListPage) -> ListPage {
        page.pipes.retain(|pipe| caller.rights_to(&PipeRef { owner, path: pipe.path.clone() }).read);
        page
    }
}

#[async_trait]
impl Broker for Access {
    fn features(&self) -> Features {
        self.broker.features()
    }

    async fn attach_writer(
        &self,
        caller: &Caller,
        pipe: &PipeRef,
        attach: WriterAttach,
    ) -> Result<WriterHalves, Error> {
        let (caller, pipe) = self.admit(caller, pipe, |rights| rights.write)?;
        self.broker.attach_writer(&caller, &pipe, attach).await
    }

    async fn attach_reader(
        &self,
        caller: &Caller,
        pipe: &PipeRef,
        attach: ReaderAttach,
    ) -> Result<ReaderHalves, Error> {
        let (caller, pipe) = self.admit(caller, pipe, |rights| rights.read)?;
        self.broker.attach_reader(&caller, &pipe, attach).await
    }

    /// Pipes that are forbidden are as if they were not there, now and when they begin.
    async fn attach_pattern_reader(
        &self,
        caller: &Caller,
        pattern: &PatternRef,
        attach: ReaderAttach,
    ) -> Result<ReaderHalves, Error> {
        let owner = self.owner(caller, pattern.owner);
        let mut pattern = PatternRef { owner, ..pattern.clone() };
        pattern.within.extend(Self::readable(caller, owner));
        let (rights, limits) = (Rights { read: true, ..Rights::NONE }, Some(self.gatekeeper.limits(owner)));
        self.broker.attach_pattern_reader(&Caller { rights, limits, ..caller.clone() }, &pattern, attach).await
    }

    /// A page may be shorter than what the broker below gave; one that is empty is followed by the next.
    async fn list(&self, caller: &Caller, query: ListQuery) -> Result<ListPage, Error> {
        let mut query = ListQuery { owner: self.owner(caller, query.owner), ..query };
        let caller = Caller { rights: Rights { read: true, ..Rights::NONE }, ..caller.clone() };
        loop {
            let below = self.broker.list(&caller, query.clone()).await?;
            let last = below.pipes.last().map(|pipe| pipe.path.clone());
            let page = Self::seen(&caller, query.owner, below);
            if !page.pipes.is_empty() || !page.more || last.is_none() {
                return Ok(page);
            }
            query.after = last;
        }
    }

    async fn stat(&self, caller: &Caller, pipe: &PipeRef) -> Result<PipeStat, Error> {
        let (caller, pipe) = self.admit(caller, pipe, |rights| rights.read)?;
        self.broker.stat(&caller, &pipe).await
    }

    async fn remove(&self, caller: &Caller, pipe: &PipeRef) -> Result<(), Error> {
        let (caller, pipe) = self.admit(caller, pipe, |rights| rights.manage)?;
        self.broker.remove(&caller, &pipe).await
    }

    async fn drain(&self) {
        self.broker.drain().await;
    }
}

/// The same words as for a pipe that does not exist.
fn no_access() -> Error {
    Error::new(Code::Access, "no such pipe, or no right to it")
}
