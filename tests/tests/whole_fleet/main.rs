//! A whole fleet: real processes, a real Redis, a real RabbitMQ, and whatever happens to them.

mod foretell;
mod leaders;
mod stop;
mod tickets;
mod whole;
mod zombie;
