//! The shipped components against the list of 8.1.0, and what is said about a wrong file.

use super::*;

/// Number and name of every component (8.1.0 spec, appendix).
const IDS: &str = "
    0 Unknown, 1 Tomcat, 2 HttpClient, 3 Dubbo, 4 H2, 5 Mysql, 6 ORACLE, 7 Redis, 8 Motan, 9 MongoDB, 10 Resin,
    11 Feign, 12 OKHttp, 13 SpringRestTemplate, 14 SpringMVC, 15 Struts2, 16 NutzMVC, 17 NutzHttp,
    18 JettyClient, 19 JettyServer, 20 Memcached, 21 ShardingJDBC, 22 PostgreSQL, 23 GRPC, 24 ElasticJob,
    25 RocketMQ, 26 httpasyncclient, 27 Kafka, 28 ServiceComb, 29 Hystrix, 30 Jedis, 31 SQLite,
    32 h2-jdbc-driver, 33 mysql-connector-java, 34 ojdbc, 35 Spymemcached, 36 Xmemcached,
    37 postgresql-jdbc-driver, 38 rocketMQ-producer, 39 rocketMQ-consumer, 40 kafka-producer, 41 kafka-consumer,
    42 mongodb-driver, 43 SOFARPC, 44 ActiveMQ, 45 activemq-producer, 46 activemq-consumer, 47 Elasticsearch,
    48 transport-client, 49 http, 50 rpc, 51 RabbitMQ, 52 rabbitmq-producer, 53 rabbitmq-consumer, 54 Canal,
    55 Gson, 56 Redisson, 57 Lettuce, 58 Zookeeper, 59 Vertx, 60 ShardingSphere, 61 spring-cloud-gateway,
    62 RESTEasy, 63 SolrJ, 64 Solr, 65 SpringAsync, 66 JdkHttp, 67 spring-webflux, 68 Play,
    69 cassandra-java-driver, 70 Cassandra, 71 Light4J, 72 Pulsar, 73 pulsar-producer, 74 pulsar-consumer,
    75 Ehcache, 76 SocketIO, 77 rest-high-level-client, 78 spring-tx, 79 Armeria, 80 JdkThreading,
    81 KotlinCoroutine, 82 AvroServer, 83 AvroClient, 84 Undertow, 85 Finagle, 86 Mariadb, 87 mariadb-jdbc,
    88 quasar, 89 InfluxDB, 90 influxdb-java, 91 brpc-java, 92 GraphQL, 93 spring-annotation, 3001 AspNetCore,
    3002 EntityFrameworkCore, 3003 SqlClient, 3004 CAP, 3005 StackExchange.Redis, 3006 SqlServer, 3007 Npgsql,
    3008 MySqlConnector, 3009 EntityFrameworkCore.InMemory, 3010 EntityFrameworkCore.SqlServer,
    3011 EntityFrameworkCore.Sqlite, 3012 Pomelo.EntityFrameworkCore.MySql,
    3013 Npgsql.EntityFrameworkCore.PostgreSQL, 3014 InMemoryDatabase, 3015 AspNet, 3016 SmartSql,
    4001 HttpServer, 4002 express, 4003 Egg, 4004 Koa, 5001 ServiceCombMesher, 5002 ServiceCombServiceCenter,
    5003 MOSN, 5004 GoHttpServer, 5005 GoHttpClient, 5006 Gin, 5007 Gear, 6000 Nginx, 7000 Python, 7001 Flask,
    7002 Requests, 7003 PyMysql, 7004 Django, 7005 Tornado, 8001 PHP, 8002 cURL, 8003 PDO, 8004 Mysqli, 8005 Yar,
    8006 Predis
";

/// Server and the components that are its clients (8.1.0 spec, appendix).
const SERVERS: &str = "
    MongoDB: mongodb-driver
    RocketMQ: rocketMQ-producer, rocketMQ-consumer
    Kafka: kafka-producer, kafka-consumer
    ActiveMQ: activemq-producer, activemq-consumer
    RabbitMQ: rabbitmq-producer, rabbitmq-consumer
    PostgreSQL: postgresql-jdbc-driver, Npgsql, Npgsql.EntityFrameworkCore.PostgreSQL
    Memcached: Xmemcached, Spymemcached
    H2: h2-jdbc-driver
    Mysql: mysql-connector-java, MySqlConnector, Pomelo.EntityFrameworkCore.MySql, Mysqli, PyMysql
    Redis: Jedis, StackExchange.Redis, Redisson, Lettuce, Predis
    Zookeeper: Zookeeper
    SqlServer: SqlClient, EntityFrameworkCore.SqlServer
    InMemoryDatabase: EntityFrameworkCore.InMemory
    SQLite: EntityFrameworkCore.Sqlite
    Elasticsearch: transport-client, rest-high-level-client
    Solr: SolrJ
    Cassandra: cassandra-java-driver
    Pulsar: pulsar-producer, pulsar-consumer
    Mariadb: mariadb-jdbc
";

fn parse(text: &str) -> Result<(Components, Vec<String>), Vec<String>> {
    Components::parse(&ConfigFile::built_in("component-libraries.yml", text))
        .map_err(|found| found.iter().map(ToString::to_string).collect())
}

fn shipped() -> Components {
    let (components, ignored) =
        parse(include_str!("../../../config/component-libraries.yml")).unwrap();
    assert!(ignored.is_empty(), "{ignored:?}");
    components
}

#[test]
fn the_shipped_file_has_every_component_of_the_original() {
    let components = shipped();
    let wanted: HashMap<i64, String> = IDS
        .split(',')
        .map(|item| item.trim().split_once(' ').unwrap())
        .map(|(id, name)| (id.parse().unwrap(), name.to_owned()))
        .collect();
    assert_eq!(wanted.len(), 134);
    assert_eq!(components.name_by_id, wanted);
    for (id, name) in &wanted {
        assert_eq!(components.id(name), Some(*id), "{name}");
    }
}

#[test]
fn the_shipped_file_has_every_server_of_the_original() {
    let mut wanted = HashMap::new();
    for line in SERVERS.trim().lines() {
        let (server, clients) = line.trim().split_once(": ").unwrap();
        for client in clients.split(", ") {
            wanted.insert(client.to_owned(), server.to_owned());
        }
    }
    assert_eq!(shipped().server_by_name, wanted);
}

#[test]
fn unknown_numbers_have_the_name_of_number_0() {
    let components = shipped();
    assert_eq!(components.name(999_999), "Unknown");
    assert_eq!(Components::default().name(999_999), "N/A");
    let mysql = components.id("mysql-connector-java").unwrap();
    assert_eq!(components.server(mysql), "Mysql");
    assert_eq!(components.server(1), "Unknown");
    assert_eq!(components.server(999_999), "Unknown");
}

#[test]
fn every_mistake_names_the_component() {
    let found = parse(
        "A: {name: 1}\nB: {id: 1}\nC: {id: 1}\nD: {id: x}\nE: 7\nComponent-Server-Mappings: {F: C, B: [1], C: 5}",
    );
    let from = "(from component-libraries.yml (built in)), expected";
    assert_eq!(
        found.unwrap_err(),
        [
            format!("A.id is missing {from} the number of the component"),
            format!("C.id is \"1\" {from} a number that B does not have"),
            format!("D.id is \"x\" {from} a whole number"),
            format!("E is \"7\" {from} a map"),
            format!("E.id is missing {from} the number of the component"),
            format!("Component-Server-Mappings.F is \"C\" {from} no server, F is no component"),
            format!("Component-Server-Mappings.B is \"a list\" {from} the name of a server"),
            format!("Component-Server-Mappings.C is \"5\" {from} no server, C is no component"),
        ]
    );
    let list = parse("[]").unwrap_err();
    assert_eq!(
        list,
        [format!(
            "the file is \"a list\" {from} a map (it begins in line 1)"
        )]
    );
}
