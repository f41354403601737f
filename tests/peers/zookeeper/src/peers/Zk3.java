package peers;

import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Stream;
import org.apache.zookeeper.server.ServerCnxnFactory;
import org.apache.zookeeper.server.ZooKeeperServer;

/**
 * One ZooKeeper 3.8 server in this process, on 127.0.0.1.
 *
 * <p>Arguments: port dataDir. Port 0 picks a free one; dataDir "-" is a temporary folder that goes away with the process.
 * Prints {@code STARTED port} once it answers. Ends on SIGTERM, and when standard input closes, so that it never outlives
 * whoever started it.
 */
public final class Zk3 {
  private static final int TICK_MS = 2000;
  private static final int MAX_CLIENTS = 100;

  private Zk3() {}

  public static void main(String[] args) throws Exception {
    if (args.length != 2) {
      System.err.println("arguments: port dataDir|-");
      System.exit(2);
    }
    boolean throwaway = args[1].equals("-");
    Path data = throwaway ? Files.createTempDirectory("zk3-") : Path.of(args[1]).toAbsolutePath();
    ZooKeeperServer server = new ZooKeeperServer(data.toFile(), data.toFile(), TICK_MS);
    InetSocketAddress address = new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0]));
    ServerCnxnFactory factory = ServerCnxnFactory.createFactory(address, MAX_CLIENTS);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      factory.shutdown();
      if (throwaway) {
        delete(data);
      }
    }));
    factory.startup(server);
    System.out.println("STARTED " + factory.getLocalPort());
    while (System.in.read() >= 0) {
      // Input means nothing, only its end does.
    }
    System.exit(0);
  }

  private static void delete(Path folder) {
    try (Stream<Path> files = Files.walk(folder)) {
      List<Path> deepestFirst = files.sorted(Comparator.reverseOrder()).toList();
      for (Path file : deepestFirst) {
        Files.deleteIfExists(file);
      }
    } catch (IOException e) {
      e.printStackTrace();
    }
  }
}
