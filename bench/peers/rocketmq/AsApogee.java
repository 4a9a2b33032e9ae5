import com.sun.net.httpserver.HttpServer;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.regex.Pattern;
import org.apache.rocketmq.broker.BrokerStartup;
import org.apache.rocketmq.namesrv.NamesrvController;
import org.apache.rocketmq.namesrv.NamesrvStartup;

/** Starts RocketMQ's name server and broker in this JVM from the flags of `apogee start`. */
public class AsApogee {
    public static void main(String[] args) throws Exception {
        Map<String, String> flags = flags(args);
        Path dir = Path.of(flags.get("dir"));
        String listen = flags.getOrDefault("listen", "127.0.0.1");
        String host = listen.contains(":") ? "[" + listen + "]" : listen;
        int namesrvPort = Integer.parseInt(flags.get("namesrv-port"));
        Path home = Files.createDirectories(dir.resolve("home"));
        System.setProperty("user.home", home.toString());
        System.setProperty("rocketmq.home.dir", dir.toString());
        Path namesrv = dir.resolve("namesrv.conf");
        Files.writeString(namesrv, "listenPort=" + namesrvPort + "\nbindAddress=" + listen
            + "\nrocketmqHome=" + dir + "\n");
        Path broker = dir.resolve("broker.conf");
        Files.writeString(broker, String.join("\n",
            "brokerClusterName=DefaultCluster",
            "brokerName=broker-a",
            "brokerId=0",
            "bindAddress=" + listen,
            "brokerIP1=" + host,
            "brokerIP2=" + host,
            "namesrvAddr=" + host + ":" + namesrvPort,
            "listenPort=" + flags.get("broker-port"),
            "haListenPort=" + flags.get("ha-port"),
            "rocketmqHome=" + dir,
            "autoCreateTopicEnable=true",
            "enablePropertyFilter=true",
            "storePathRootDir=" + dir.resolve("store"),
            "storePathCommitLog=" + dir.resolve("store").resolve("commitlog"), "") + settings(flags));
        NamesrvController routes = NamesrvStartup.main0(new String[] {"-c", namesrv.toString()});
        BrokerStartup.main(new String[] {"-c", broker.toString()});
        while (routes.getRouteInfoManager().pickupTopicRouteData("TBW102") == null) {
            Thread.sleep(10); // the broker registers in the background
        }
        ready(listen, Integer.parseInt(flags.get("admin-port")));
    }

    /** Flags that are not about the process are the broker's settings, in kebab case. */
    private static String settings(Map<String, String> flags) {
        StringBuilder text = new StringBuilder();
        flags.forEach((flag, value) -> {
            if (!flag.matches("dir|listen|.*-port")) {
                String key = Pattern.compile("-(.)").matcher(flag).replaceAll(m -> m.group(1).toUpperCase());
                text.append(key).append('=').append(value).append('\n');
            }
        });
        return text.toString();
    }

    private static void ready(String listen, int port) throws Exception {
        HttpServer http = HttpServer.create(new InetSocketAddress(InetAddress.getByName(listen), port), 0);
        http.createContext("/readyz", exchange -> {
            exchange.sendResponseHeaders(200, -1);
            exchange.close();
        });
        http.start();
    }

    private static Map<String, String> flags(String[] args) {
        Map<String, String> flags = new HashMap<>();
        for (int i = 1; i < args.length; i++) {
            String[] kv = args[i].replaceFirst("^--", "").split("=", 2);
            flags.put(kv[0], kv.length == 2 ? kv[1] : args[++i]);
        }
        return flags;
    }
}
