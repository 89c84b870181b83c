//! A whole fleet: real processes, a real Redis, a real RabbitMQ, and whatever happens to them.

mod cancel;
mod foretell;
mod stop;
mod tickets;
mod whole;
