//! The journal against crashes, damage and time: what was durable comes back exactly, whatever the disk did to the rest.

mod checkpoint;
mod corruption;
mod crash;
mod recovery;
mod unsynced;
mod world;
mod writer;
