//! Nodes that find each other through ZooKeeper, etcd, Consul and Nacos: real ones where they can be had, else doubles.

mod centers;
mod doubles;
mod together;
mod wrong;
