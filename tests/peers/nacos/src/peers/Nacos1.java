package peers;

import com.alibaba.nacos.core.auth.AccessException;
import com.alibaba.nacos.core.auth.AuthManager;
import com.alibaba.nacos.core.auth.Permission;
import com.alibaba.nacos.core.auth.User;
import com.alibaba.nacos.core.code.ControllerMethodsCache;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.nio.file.StandardCopyOption;
import java.util.Arrays;
import javax.annotation.PostConstruct;
import org.springframework.beans.factory.annotation.Autowired;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.web.servlet.ServletComponentScan;
import org.springframework.context.annotation.Bean;
import org.springframework.scheduling.annotation.EnableScheduling;

/**
 * One Nacos 1.2 server in this process, on 127.0.0.1, standing alone with its own database.
 *
 * <p>Arguments: port dataDir [auth]. Port 0 picks a free one; with {@code auth} it lets nobody in. Prints {@code STARTED port}
 * once it answers. Ends on SIGTERM, and when standard input closes, so that it never outlives whoever started it. The main
 * class of the real server is in its console, which is not published; this one does the same for the other modules.
 */
@SpringBootApplication(scanBasePackages = {"com.alibaba.nacos", "peers"})
@ServletComponentScan("com.alibaba.nacos")
@EnableScheduling
public class Nacos1 {
  // Below the ports that systems give away by themselves: it must know its own before it opens it.
  private static final int FIRST_PORT = 20_000;
  private static final int PORTS = 10_000;

  @Autowired private ControllerMethodsCache methods;

  @PostConstruct
  void findMethods() {
    for (String module : Arrays.asList("core.controller", "naming.controllers", "config.server.controller")) {
      methods.initClassMethod("com.alibaba.nacos." + module);
    }
  }

  @Bean
  AuthManager nobody() {
    return new AuthManager() {
      @Override
      public User login(Object request) throws AccessException {
        throw new AccessException("user not found!");
      }

      @Override
      public void auth(Permission permission, User user) throws AccessException {
        throw new AccessException("authorization failed!");
      }
    };
  }

  public static void main(String[] args) throws Exception {
    if (args.length != 2 && args.length != 3) {
      System.err.println("arguments: port dataDir [auth]");
      System.exit(2);
    }
    int port = Integer.parseInt(args[0]);
    if (port == 0) {
      port = freePort();
    }
    Path home = Paths.get(args[1]).toAbsolutePath();
    Path schema = home.resolve("conf/schema.sql");
    Files.createDirectories(schema.getParent());
    try (InputStream tables = Nacos1.class.getResourceAsStream("/META-INF/schema.sql")) {
      Files.copy(tables, schema, StandardCopyOption.REPLACE_EXISTING);
    }
    System.setProperty("user.home", home.toString());
    System.setProperty("nacos.home", home.toString());
    System.setProperty("derby.stream.error.file", home.resolve("derby.log").toString());
    System.setProperty("nacos.standalone", "true");
    System.setProperty("nacos.server.ip", "127.0.0.1");
    System.setProperty("nacos.core.auth.enabled", Boolean.toString(args.length == 3));
    System.setProperty("useAddressServer", "false");
    System.setProperty("server.address", "127.0.0.1");
    System.setProperty("server.port", Integer.toString(port));
    System.setProperty("server.servlet.contextPath", "/nacos");
    SpringApplication.run(Nacos1.class);
    System.out.println("STARTED " + port);
    while (System.in.read() >= 0) {
      // Input means nothing, only its end does.
    }
    System.exit(0);
  }

  private static int freePort() {
    int start = (int) (ProcessHandle.current().pid() % PORTS);
    for (int at = 0; at < PORTS; at++) {
      int port = FIRST_PORT + (start + at) % PORTS;
      try (ServerSocket socket = new ServerSocket(port, 1, InetAddress.getLoopbackAddress())) {
        return socket.getLocalPort();
      } catch (IOException e) {
        // Somebody has it.
      }
    }
    throw new IllegalStateException("no free port");
  }
}
