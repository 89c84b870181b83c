//! Whole-system tests on the embedded store: the executable is killed, stopped, cancelled, refused, throttled, cut off.

mod acknowledged;
mod bad_answers;
mod before;
mod begin;
mod connect;
mod faults;
mod interrupt;
mod manifest;
mod refusals;
mod secrets;
mod several;
mod strangers;
mod transit;
