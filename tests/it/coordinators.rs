//! Nodes that find each other through ZooKeeper, etcd, Consul and Nacos, real ones.

mod centers;
mod secured_etcd;
mod together;
mod wrong;
