//! Redis and RabbitMQ of this machine, started privately: each with its own folder and ports, unprivileged, gone with
//! its handle. For `keyrotate demo --fleet` and the tests; nothing of it is on the way of a real job.

mod process;
pub mod rabbitmq;
pub mod redis;

pub use process::PeerError;
pub use rabbitmq::PrivateRabbitMq;
pub use redis::PrivateRedis;
