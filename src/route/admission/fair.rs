//! A bounded queue that is fair between tenants by tokens.
//!
//! Each tenant has a clock that counts the tokens it was served while others waited; the one furthest
//! behind goes first. That is deficit round robin with a quantum of one token: no quantum has to be
//! larger than the largest request, and no round has to be walked through. Classes have clocks, too, which
//! run slower the more urgent a class is; of two classes the one goes first whose clock will show less when
//! its request is charged. So the less urgent ones are late, and not starved.
//!
//! Invariants: what waits is within the bounds; of two tenants of a class that both wait all the time,
//! neither gets ahead by more than the largest request of each; a tenant that was away earns nothing by
//! it; a full queue takes from whoever has most in it, so that nobody can keep others out by filling it.

use std::collections::{BTreeMap, VecDeque};

/// Classes, the most urgent first.
pub const CLASSES: usize = 3;
/// While two neighbouring classes wait, the more urgent one gets so many times the tokens of the other.
pub const CLASS_STEP: f64 = 16.0;
/// Requests that give way to one newcomer, at most.
const DISPLACED_MAX: usize = 16;

/// What may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub requests_max: usize,
    pub bytes_max: u64,
}

/// A request as the queue sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub tenant: u64,
    /// 0 to [`CLASSES`] - 1.
    pub class: usize,
    /// Tokens that it is expected to cost, at least 1.
    pub tokens: u32,
    /// Of its body.
    pub bytes: u64,
}

/// A request's place in the queue; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(u64);

/// A request was taken in.
#[derive(Debug)]
pub struct Pushed<T> {
    pub id: Id,
    /// Those that made room for it: they do not wait any more.
    pub displaced: Vec<(Id, T)>,
}

/// There is no room, and nobody whom the request may displace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Its own tenant has more in the queue than an equal part.
    pub own_doing: bool,
}

/// The queue; `T` is what the caller keeps with each request.
#[derive(Debug)]
pub struct FairQueue<T> {
    bounds: Bounds,
    waiting: BTreeMap<Id, (Entry, T)>,
    classes: [Class; CLASSES],
    /// What the clock of the class showed that was served last, after it.
    clock: f64,
    bytes: u64,
    next: u64,
}

/// The tenants of one class.
#[derive(Debug, Default)]
struct Class {
    tenants: BTreeMap<u64, Tenant>,
    clock: f64,
    /// The clock of the tenant that was served last.
    served: f64,
    requests: usize,
    tokens: u64,
}

#[derive(Debug, Default)]
struct Tenant {
    clock: f64,
    /// In the order of their coming.
    waiting: VecDeque<Id>,
    tokens: u64,
}

impl<T> FairQueue<T> {
    /// An empty queue.
    pub fn new(bounds: Bounds) -> Self {
        let (waiting, classes) = (BTreeMap::new(), Default::default());
        Self { bounds, waiting, classes, clock: 0.0, bytes: 0, next: 0 }
    }

    /// Other bounds from now on; what waits stays.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Requests that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes of the bodies that wait.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Tokens that wait in `class` and in those more urgent.
    pub fn tokens_before(&self, class: usize) -> u64 {
        self.classes.iter().take(class + 1).map(|class| class.tokens).sum()
    }

    /// The tenants that wait, once for each class.
    pub fn tenants(&self) -> impl Iterator<Item = u64> {
        let all = self.classes.iter().flat_map(|class| &class.tenants);
        all.filter(|(_, tenant)| !tenant.waiting.is_empty()).map(|(name, _)| *name)
    }

    /// What the caller keeps with a request, if it waits.
    pub fn get(&self, id: Id) -> Option<&T> {
        self.waiting.get(&id).map(|(_, kept)| kept)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        self.waiting.get_mut(&id).map(|(_, kept)| kept)
    }

    /// Whether somebody waits whom `of` means.
    pub fn any(&self, of: impl Fn(&T) -> bool) -> bool {
        self.waiting.values().any(|(_, kept)| of(kept))
    }

    /// Takes a request in, at the end of its tenant's line.
    ///
    /// # Errors
    /// The queue is full, and nobody in it should give way.
    pub fn push(&mut self, entry: Entry, kept: T) -> Result<Pushed<T>, Full> {
        let victims = self.victims(&entry)?;
        let displaced = victims.into_iter().filter_map(|id| Some((id, self.remove(id)?.1)));
        let displaced = displaced.collect();
        let id = Id(self.next);
        self.next += 1;
        self.bytes += entry.bytes;
        self.waiting.insert(id, (entry, kept));
        let clock = self.clock;
        self.classes[entry.class].push(id, &entry, clock);
        Ok(Pushed { id, displaced })
    }

    /// The request to serve next, of those that `fits`. It stays until it is served or removed.
    pub fn next(&self, mut fits: impl FnMut(&T) -> bool) -> Option<Id> {
        let mut fit = |id: &Id| self.get(*id).is_some_and(&mut fits);
        let heads = self.classes.iter().enumerate().filter_map(|(class, line)| {
            let id = line.next(&mut fit)?;
            let (entry, _) = self.waiting.get(&id)?;
            Some((line.clock + class_charge(class, entry.tokens), id))
        });
        heads.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, id)| id)
    }

    /// A request leaves because it is served, at so many tokens; `weight` is its tenant's, 1 for all alike.
    pub fn serve(&mut self, id: Id, tokens: u32, weight: f64) -> Option<(Entry, T)> {
        let (entry, _) = self.waiting.get(&id)?;
        let class = &mut self.classes[entry.class];
        class.charge(entry.tenant, f64::from(tokens.max(1)) / weight.max(1e-3));
        class.clock += class_charge(entry.class, tokens);
        self.clock = self.clock.max(class.clock);
        self.remove(id)
    }

    /// A request leaves without having been served.
    pub fn remove(&mut self, id: Id) -> Option<(Entry, T)> {
        let (entry, kept) = self.waiting.remove(&id)?;
        self.bytes -= entry.bytes;
        self.classes[entry.class].remove(id, &entry);
        Some((entry, kept))
    }

    /// Who must give way to a newcomer: nobody while there is room, else the newest of the tenant that has
    /// most in the least urgent class.
    fn victims(&self, new: &Entry) -> Result<Vec<Id>, Full> {
        if self.holds(new, 0, 0) {
            return Ok(Vec::new());
        }
        let full = Full { own_doing: self.has_more_than_its_part(new) };
        let class = self.classes.iter().rposition(|class| class.requests > 0).ok_or(full)?;
        if class < new.class {
            return Err(full);
        }
        let most = self.classes[class].tenants.iter().max_by_key(|(_, tenant)| tenant.tokens);
        let (name, tenant) = most.ok_or(full)?;
        let own = self.classes[class].tenants.get(&new.tenant).map_or(0, |tenant| tenant.tokens);
        // In its own class a newcomer may only take from who would still have more than itself.
        let floor = match class > new.class {
            true => 0,
            false if *name == new.tenant => return Err(full),
            false => own + u64::from(new.tokens),
        };
        self.newest(tenant, new, floor).ok_or(full)
    }

    fn newest(&self, tenant: &Tenant, new: &Entry, floor: u64) -> Option<Vec<Id>> {
        let (mut bytes, mut tokens, mut victims) = (0, tenant.tokens, Vec::new());
        for id in tenant.waiting.iter().rev().take(DISPLACED_MAX) {
            let (entry, _) = self.waiting.get(id)?;
            bytes += entry.bytes;
            tokens -= u64::from(entry.tokens);
            victims.push(*id);
            if tokens < floor {
                return None;
            }
            if self.holds(new, victims.len(), bytes) {
                return Some(victims);
            }
        }
        None
    }

    /// Whether there is room for `new` once so much has left.
    fn holds(&self, new: &Entry, requests: usize, bytes: u64) -> bool {
        self.waiting.len() - requests < self.bounds.requests_max
            && self.bytes - bytes + new.bytes <= self.bounds.bytes_max
    }

    fn has_more_than_its_part(&self, new: &Entry) -> bool {
        let tenants = self.classes.iter().flat_map(|class| class.tenants.values());
        let waiting = tenants.filter(|tenant| !tenant.waiting.is_empty()).count() as u64;
        let own = |class: &Class| class.tenants.get(&new.tenant).map_or(0, |tenant| tenant.tokens);
        let own: u64 = self.classes.iter().map(own).sum();
        own > 0 && own * waiting.max(1) >= self.tokens_before(CLASSES)
    }
}

/// By how much the clock of a class runs on for so many tokens.
fn class_charge(class: usize, tokens: u32) -> f64 {
    f64::from(tokens.max(1)) / CLASS_STEP.powi((CLASSES - class) as i32)
}

impl Class {
    fn push(&mut self, id: Id, entry: &Entry, clock: f64) {
        if self.requests == 0 {
            // Nobody waited, so nobody was served at another's expense.
            self.tenants.clear();
            self.served = 0.0;
            self.clock = self.clock.max(clock);
        }
        self.requests += 1;
        self.tokens += u64::from(entry.tokens);
        let tenant = self.tenants.entry(entry.tenant).or_default();
        if tenant.waiting.is_empty() {
            tenant.clock = tenant.clock.max(self.served);
        }
        tenant.tokens += u64::from(entry.tokens);
        tenant.waiting.push_back(id);
    }

    /// The tenant furthest behind that has a request which fits; of two, whose request is older.
    fn next(&self, fit: &mut impl FnMut(&Id) -> bool) -> Option<Id> {
        let mut best: Option<(f64, Id)> = None;
        for tenant in self.tenants.values() {
            let Some(first) = tenant.waiting.front() else { continue };
            if best.is_some_and(|(clock, id)| (clock, id) <= (tenant.clock, *first)) {
                continue;
            }
            if let Some(id) = tenant.waiting.iter().find(|id| fit(id)) {
                best = Some((tenant.clock, *id));
            }
        }
        best.map(|(_, id)| id)
    }

    /// Charges a tenant for a request that is served.
    fn charge(&mut self, tenant: u64, charge: f64) {
        if let Some(tenant) = self.tenants.get_mut(&tenant) {
            self.served = self.served.max(tenant.clock);
            tenant.clock += charge;
        }
    }

    fn remove(&mut self, id: Id, entry: &Entry) {
        self.requests -= 1;
        self.tokens -= u64::from(entry.tokens);
        let Some(tenant) = self.tenants.get_mut(&entry.tenant) else { return };
        tenant.tokens -= u64::from(entry.tokens);
        if let Ok(at) = tenant.waiting.binary_search(&id) {
            tenant.waiting.remove(at);
        }
        // Its clock matters as long as it is ahead of the others'.
        if tenant.waiting.is_empty() && tenant.clock <= self.served {
            self.tenants.remove(&entry.tenant);
        }
        self.forget();
    }

    /// Tenants that were away until the others had as much are as good as new.
    fn forget(&mut self) {
        if self.tenants.len() > 2 * self.requests + 16 {
            let served = self.served;
            self.tenants.retain(|_, tenant| !tenant.waiting.is_empty() || tenant.clock > served);
        }
        if self.tenants.len() > 2 * self.requests + 1_024 {
            self.tenants.retain(|_, tenant| !tenant.waiting.is_empty());
        }
    }
}
