package peers;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.apache.skywalking.apm.agent.core.boot.ServiceManager;
import org.apache.skywalking.apm.agent.core.conf.SnifferConfigInitializer;
import org.apache.skywalking.apm.agent.core.context.CarrierItem;
import org.apache.skywalking.apm.agent.core.context.ContextCarrier;
import org.apache.skywalking.apm.agent.core.context.ContextManager;
import org.apache.skywalking.apm.agent.core.context.tag.StringTag;
import org.apache.skywalking.apm.agent.core.context.trace.AbstractSpan;
import org.apache.skywalking.apm.agent.core.context.trace.SpanLayer;
import org.apache.skywalking.apm.network.trace.component.ComponentsDefine;

/**
 * One small HTTP service on 127.0.0.1 that reports through the genuine core of the SkyWalking Java agent 8.1.0.
 *
 * <p>The core has no instrumentation of its own, so the spans are opened here by hand, as a plugin would;
 * identifiers, propagation, buffering and everything on the wire are the agent's.
 *
 * <p>Arguments: {@code --role order|stock --port PORT --oap HOST:PORT --service NAME --instance NAME
 * [--next URL]}; port 0 picks a free one. The role order serves /order, which calls /stock at the next URL; the role
 * stock serves /stock. Both serve /broken, which fails with an error log and status 500, and /slow, which takes more than
 * half a second. Prints {@code READY port}. Ends on SIGTERM, and when standard input closes, so that it never outlives whoever started it.
 */
public final class Shop {
  private static final StringTag URL = new StringTag("url");
  private static final StringTag METHOD = new StringTag("http.method");
  private static final StringTag STATUS = new StringTag("status_code");
  private static final int TIMEOUT_MILLIS = 10_000;
  private static final int SLOW_MILLIS = 600;

  private interface Page {
    String answer() throws IOException;
  }

  public static void main(String[] args) {
    try {
      run(args);
    } catch (Exception e) {
      // The agent's threads would keep the process alive.
      e.printStackTrace();
      System.exit(1);
    }
  }

  private static void run(String[] args) throws Exception {
    Map<String, String> options = options(args);
    Thread watch = new Thread(Shop::exitWithParent, "stdin");
    watch.setDaemon(true);
    watch.start();
    String role = need(options, "role");
    int port = Integer.parseInt(need(options, "port"));
    startAgent(need(options, "oap"), need(options, "service"), need(options, "instance"));

    HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 0);
    ExecutorService workers = Executors.newFixedThreadPool(4);
    server.setExecutor(workers);
    switch (role) {
      case "order" -> {
        String next = need(options, "next");
        serve(server, "/order", () -> local("priceOrder", () -> "order with " + call(next, "/stock")));
      }
      case "stock" -> serve(server, "/stock", () -> local("countStock", () -> "stock of 7"));
      default -> throw new IllegalArgumentException("role " + role + " is neither order nor stock");
    }
    serve(server, "/broken", () -> local("breakDown", () -> {
      throw new IllegalStateException("broken on purpose");
    }));
    serve(server, "/slow", () -> local("takeTime", Shop::slowly));
    server.start();
    System.out.println("READY " + server.getAddress().getPort());
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

  private static void startAgent(String oap, String service, String instance) throws Exception {
    System.setProperty("skywalking.collector.backend_service", oap);
    System.setProperty("skywalking.agent.service_name", service);
    System.setProperty("skywalking.agent.instance_name", instance);
    System.setProperty("skywalking.logging.output", "CONSOLE");
    System.setProperty("skywalking.logging.level", "WARN");
    // Registration and heart beats come every 30 s by default, too slow for a test.
    System.setProperty("skywalking.collector.heartbeat_period", "3");
    System.setProperty("skywalking.collector.get_profile_task_interval", "3");
    SnifferConfigInitializer.initializeCoreConfig(null);
    ServiceManager.INSTANCE.boot();
    Runtime.getRuntime().addShutdownHook(new Thread(ServiceManager.INSTANCE::shutdown));
  }

  /** Answers GET on a path inside an entry span that continues the caller's trace. */
  private static void serve(HttpServer server, String path, Page page) {
    server.createContext(path, exchange -> {
      ContextCarrier carrier = new ContextCarrier();
      for (CarrierItem item = carrier.items(); item.hasNext(); ) {
        item = item.next();
        String value = exchange.getRequestHeaders().getFirst(item.getHeadKey());
        if (value != null) {
          item.setHeadValue(value);
        }
      }
      AbstractSpan span = ContextManager.createEntrySpan(path, carrier);
      span.setComponent(ComponentsDefine.TOMCAT);
      span.setLayer(SpanLayer.HTTP);
      span.tag(URL, "http://" + exchange.getRequestHeaders().getFirst("Host") + path);
      span.tag(METHOD, exchange.getRequestMethod());
      int status = 200;
      String body;
      try {
        body = page.answer();
      } catch (IOException | RuntimeException e) {
        span.errorOccurred().log(e);
        status = 500;
        body = e.toString();
      }
      if (status >= 400) {
        span.tag(STATUS, Integer.toString(status));
      }
      ContextManager.stopSpan();
      reply(exchange, status, body);
    });
  }

  /** Where snapshots of the thread find it. */
  private static String slowly() throws IOException {
    try {
      Thread.sleep(SLOW_MILLIS);
    } catch (InterruptedException e) {
      throw new IOException(e);
    }
    return "at last";
  }

  /** Runs a step inside a local span. */
  private static String local(String name, Page page) throws IOException {
    AbstractSpan span = ContextManager.createLocalSpan(name);
    try {
      return page.answer();
    } catch (IOException | RuntimeException e) {
      span.errorOccurred().log(e);
      throw e;
    } finally {
      ContextManager.stopSpan();
    }
  }

  /** Calls another service inside an exit span, sending the trace along. */
  private static String call(String base, String path) throws IOException {
    URI target = URI.create(base + path);
    ContextCarrier carrier = new ContextCarrier();
    AbstractSpan span = ContextManager.createExitSpan(path, carrier, target.getHost() + ":" + target.getPort());
    try {
      span.setComponent(ComponentsDefine.HTTPCLIENT);
      span.setLayer(SpanLayer.HTTP);
      span.tag(URL, target.toString());
      span.tag(METHOD, "GET");
      HttpURLConnection connection = (HttpURLConnection) target.toURL().openConnection();
      connection.setConnectTimeout(TIMEOUT_MILLIS);
      connection.setReadTimeout(TIMEOUT_MILLIS);
      for (CarrierItem item = carrier.items(); item.hasNext(); ) {
        item = item.next();
        connection.setRequestProperty(item.getHeadKey(), item.getHeadValue());
      }
      try (var in = connection.getInputStream()) {
        return new String(in.readAllBytes(), StandardCharsets.UTF_8);
      }
    } catch (IOException e) {
      span.errorOccurred().log(e);
      throw e;
    } finally {
      ContextManager.stopSpan();
    }
  }

  private static void reply(HttpExchange exchange, int status, String body) throws IOException {
    byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
    exchange.sendResponseHeaders(status, bytes.length);
    try (OutputStream out = exchange.getResponseBody()) {
      out.write(bytes);
    }
  }

  private static Map<String, String> options(String[] args) {
    Map<String, String> options = new HashMap<>();
    for (int i = 0; i < args.length; i += 2) {
      if (!args[i].startsWith("--") || i + 1 == args.length) {
        throw new IllegalArgumentException("expected --name value, found " + args[i]);
      }
      options.put(args[i].substring(2), args[i + 1]);
    }
    return options;
  }

  private static String need(Map<String, String> options, String name) {
    String value = options.get(name);
    if (value == null) {
      throw new IllegalArgumentException("option --" + name + " is missing");
    }
    return value;
  }
}
