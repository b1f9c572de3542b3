//! Files to a sink, whatever happens to either. The sink is a stand-in (see there); files, processes and locks are
//! real.

mod faults;
mod identity;
mod random;
mod restart;
mod rotation;
mod spool;
mod stand_in;
mod support;
