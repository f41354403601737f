package peers;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.Comparator;
import java.util.List;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.common.util.concurrent.ThreadContext;
import org.elasticsearch.env.Environment;
import org.elasticsearch.http.HttpServerTransport;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.ActionPlugin;
import org.elasticsearch.plugins.Plugin;
import org.elasticsearch.rest.BytesRestResponse;
import org.elasticsearch.rest.RestHandler;
import org.elasticsearch.rest.RestStatus;

/**
 * One Elasticsearch 7.10 node in this process, on 127.0.0.1.
 *
 * <p>Arguments: httpPort transportPort dataDir [user:password]. Port 0 picks a free one; dataDir "-" is a
 * temporary folder, in memory where there is room, that goes away with the process. Prints {@code STARTED httpPort} once it answers. Ends on
 * SIGTERM, and when standard input closes, so that it never outlives whoever started it.
 *
 * <p>A subclass of Node instead of the usual launcher: no security manager and no bootstrap checks, so neither
 * an installation nor JVM flags are needed.
 */
public final class Es7 extends Node {
  /** The modules of the plain distribution that a client can notice. */
  private static final List<String> MODULES = List.of(
      "org.elasticsearch.transport.Netty4Plugin",
      "org.elasticsearch.analysis.common.CommonAnalysisPlugin",
      "org.elasticsearch.painless.PainlessPlugin",
      "org.elasticsearch.index.reindex.ReindexPlugin",
      "org.elasticsearch.ingest.common.IngestCommonPlugin",
      "org.elasticsearch.script.expression.ExpressionPlugin",
      "org.elasticsearch.index.mapper.MapperExtrasPlugin",
      "org.elasticsearch.join.ParentJoinPlugin",
      "org.elasticsearch.percolator.PercolatorPlugin",
      "org.elasticsearch.script.mustache.MustachePlugin");

  private static final long ENOUGH_MEMORY_BYTES = 2L << 30;

  /** The one accepted Authorization header; null lets everybody in. Plugins are made by class, hence static. */
  private static String authorization;

  private Es7(Environment environment, Collection<Class<? extends Plugin>> plugins) {
    super(environment, plugins, false);
  }

  /** Stands in for the licensed security module: HTTP basic authentication in front of every handler. */
  public static final class BasicAuth extends Plugin implements ActionPlugin {
    private static final String REFUSAL =
        "{\"error\":{\"type\":\"security_exception\",\"reason\":\"wrong or no user and password\"},\"status\":401}";

    @Override
    public UnaryOperator<RestHandler> getRestHandlerWrapper(ThreadContext context) {
      if (authorization == null) {
        return handler -> handler;
      }
      byte[] wanted = authorization.getBytes(StandardCharsets.UTF_8);
      return handler -> (request, channel, client) -> {
        String given = request.header("Authorization");
        if (given != null && MessageDigest.isEqual(wanted, given.getBytes(StandardCharsets.UTF_8))) {
          handler.handleRequest(request, channel, client);
          return;
        }
        BytesRestResponse response = new BytesRestResponse(RestStatus.UNAUTHORIZED, "application/json", REFUSAL);
        response.addHeader("WWW-Authenticate", "Basic realm=\"security\" charset=\"UTF-8\"");
        channel.sendResponse(response);
      };
    }
  }

  public static void main(String[] args) throws Exception {
    if (args.length < 3 || args.length > 4) {
      System.err.println("arguments: httpPort transportPort dataDir|- [user:password]");
      System.exit(2);
    }
    Thread watch = new Thread(Es7::exitWithParent, "stdin");
    watch.setDaemon(true);
    watch.start();
    if (args.length == 4) {
      authorization = "Basic " + Base64.getEncoder().encodeToString(args[3].getBytes(StandardCharsets.UTF_8));
    }
    boolean throwaway = args[2].equals("-");
    Path home = throwaway ? temporaryHome() : Path.of(args[2]).toAbsolutePath();
    Path config = Files.createDirectories(home.resolve("config"));

    Es7 node = new Es7(new Environment(settings(home, args[0], args[1]), config), plugins());
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      try {
        node.close();
      } catch (IOException e) {
        e.printStackTrace();
      }
      if (throwaway) {
        delete(home);
      }
    }));
    node.start();
    int port = node.injector().getInstance(HttpServerTransport.class).boundAddress().publishAddress().getPort();
    System.out.println("STARTED " + port);
    Thread.currentThread().join();
  }

  private static void exitWithParent() {
    try {
      while (System.in.read() >= 0) {
        // Input means nothing, only its end does.
      }
    } catch (IOException e) {
      e.printStackTrace();
    }
    System.exit(0);
  }

  /** Creating an index waits for the disk several times; in memory it takes a quarter of the time. */
  private static Path temporaryHome() throws IOException {
    Path memory = Path.of("/dev/shm");
    if (Files.isWritable(memory) && Files.getFileStore(memory).getUsableSpace() >= ENOUGH_MEMORY_BYTES) {
      return Files.createTempDirectory(memory, "es7-");
    }
    return Files.createTempDirectory("es7-");
  }

  private static Settings settings(Path home, String httpPort, String transportPort) {
    return Settings.builder()
        .put("path.home", home)
        .put("cluster.name", "peers")
        .put("node.name", "es7")
        .putList("node.roles", "master", "data", "ingest")
        .put("discovery.type", "single-node")
        .put("network.host", "127.0.0.1")
        .put("http.port", httpPort)
        .put("transport.port", transportPort)
        // A nearly full disk would turn every index read-only.
        .put("cluster.routing.allocation.disk.threshold_enabled", false)
        // Garbage that is not collected yet must not count as load.
        .put("indices.breaker.total.use_real_memory", false)
        // Many tests share the node, each with a full set of daily indices; the default is 1000.
        .put("cluster.max_shards_per_node", 20_000)
        .build();
  }

  private static List<Class<? extends Plugin>> plugins() throws ClassNotFoundException {
    List<Class<? extends Plugin>> plugins = new ArrayList<>();
    plugins.add(BasicAuth.class);
    for (String module : MODULES) {
      plugins.add(Class.forName(module).asSubclass(Plugin.class));
    }
    return plugins;
  }

  private static void delete(Path folder) {
    try (Stream<Path> paths = Files.walk(folder)) {
      paths.sorted(Comparator.reverseOrder()).forEach(path -> path.toFile().delete());
    } catch (IOException | UncheckedIOException e) {
      e.printStackTrace();
    }
  }
}
