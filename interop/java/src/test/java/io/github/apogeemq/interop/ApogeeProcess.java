package io.github.apogeemq.interop;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/**
 * One process of the binary under test, on a directory and ports that stay the same when it is
 * started again. APOGEE_BIN (environment or system property) names the binary,
 * ../../bin/apogee by default; APOGEE_READY_SECONDS bounds its start, 10 by default.
 */
final class ApogeeProcess {
    private static final int PORTS = 9;
    // Below what systems hand out for outgoing connections.
    private static final int PORT_MIN = 12_000;
    private static final int PORT_MAX = 32_000;
    private static final int PORT_TRIES_MAX = 200;
    private static final int STOP_SECONDS_MAX = 20;
    private static final int OTHERS_STOP_SECONDS_MAX = 90; // the original's own waits add up to 20 s and more
    private static final int READY_POLL_MILLIS = 10;
    private static final int LOG_TAIL_CHARS_MAX = 4_096;

    private final Path dir;
    private final String listen;
    private final List<String> program;
    private final int port;
    private final List<String> more;
    private int starts;
    private Process process;

    /** more: further flags of `apogee start`, each with its value. */
    ApogeeProcess(Path dir, String listen, String... more) throws IOException {
        this(dir, listen, List.of(binary().getPath()), more);
    }

    /** One of another program that takes the same flags: the original, as bench/peers/rocketmq starts it. */
    ApogeeProcess(Path dir, String listen, List<String> program, String... more) throws IOException {
        this.dir = dir;
        this.listen = listen;
        this.program = program;
        this.port = freePorts(listen);
        this.more = List.of(more);
        Files.createDirectories(dir.resolve("data"));
    }

    String nameServer() {
        return address(port);
    }

    Path data() {
        return dir.resolve("data");
    }

    String broker() {
        return address(port + 3); // the fast port is two below
    }

    private String address(int at) {
        return (listen.contains(":") ? "[" + listen + "]" : listen) + ":" + at;
    }

    static String setting(String name, String otherwise) {
        String value = System.getProperty(name, System.getenv(name));
        return value == null || value.isEmpty() ? otherwise : value;
    }

    static File binary() {
        File bin = new File(setting("APOGEE_BIN", System.getProperty("interop.root", "../..") + "/bin/apogee")).getAbsoluteFile();
        if (!bin.canExecute()) {
            throw new IllegalStateException("no binary to test: run `make build`, or name one with APOGEE_BIN: " + bin);
        }
        return bin;
    }

    /** Runs the program and returns when it answers ready. */
    void start() throws Exception {
        starts++;
        List<String> command = new ArrayList<>(program);
        command.addAll(List.of("start", "--dir", dir.resolve("data").toString(), "--listen", listen));
        String[] flags = {"namesrv", "", "", "broker", "ha", "admin", "grpc", "proxy", "console"};
        for (int i = 0; i < flags.length; i++) {
            if (!flags[i].isEmpty()) {
                command.add("--" + flags[i] + "-port");
                command.add(String.valueOf(port + i));
            }
        }
        command.addAll(more);
        process = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(log().toFile()).start();
        try {
            awaitReady();
        } catch (Exception | AssertionError e) {
            kill();
            throw new IllegalStateException(command + ": " + e.getMessage() + "; its output ends in:\n" + logTail(), e);
        }
    }

    private void awaitReady() throws Exception {
        URL url = new URL("http://" + address(port + 5) + "/readyz");
        int seconds = Integer.parseInt(setting("APOGEE_READY_SECONDS", "10"));
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        while (status(url) != HttpURLConnection.HTTP_OK) {
            if (!process.isAlive()) {
                throw new IllegalStateException("exited with " + process.exitValue() + " before it was ready");
            }
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException(url + " did not answer 200 within " + seconds + " s");
            }
            Thread.sleep(READY_POLL_MILLIS);
        }
    }

    private static int status(URL url) {
        try {
            HttpURLConnection connection = (HttpURLConnection) url.openConnection();
            connection.setConnectTimeout(1_000);
            connection.setReadTimeout(1_000);
            try {
                return connection.getResponseCode();
            } finally {
                connection.disconnect();
            }
        } catch (IOException e) {
            return -1;
        }
    }

    /** SIGKILL; returns when the process is gone. */
    void kill() throws InterruptedException {
        if (process != null) {
            process.destroyForcibly().waitFor();
            process = null;
        }
    }

    /** SIGTERM; fails when the process does not end by itself. */
    void stop() throws InterruptedException {
        if (process == null) {
            return;
        }
        process.destroy();
        int seconds = program.size() == 1 ? STOP_SECONDS_MAX : OTHERS_STOP_SECONDS_MAX;
        if (!process.waitFor(seconds, TimeUnit.SECONDS)) {
            kill();
            throw new IllegalStateException("still running " + seconds + " s after SIGTERM; its output ends in:\n"
                + logTail());
        }
        process = null;
    }

    /** Runs a command of the binary on this cluster and returns what it prints. */
    String run(String... arguments) throws Exception {
        List<String> command = new ArrayList<>(List.of(binary().getPath()));
        command.addAll(List.of(arguments));
        command.addAll(List.of("--namesrv", nameServer()));
        Process run = new ProcessBuilder(command).redirectErrorStream(true).start();
        String printed = new String(run.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        if (run.waitFor() != 0) {
            throw new AssertionError(command + " ended with " + run.exitValue() + ":\n" + printed);
        }
        return printed;
    }

    /** The lines of /metrics. */
    List<String> metrics() throws IOException {
        try (InputStream in = new URL("http://" + address(port + 5) + "/metrics").openStream()) {
            return new String(in.readAllBytes(), StandardCharsets.UTF_8).lines().collect(Collectors.toList());
        }
    }

    private Path log() {
        return dir.resolve("apogee-" + starts + ".log");
    }

    String logTail() {
        try {
            String text = new String(Files.readAllBytes(log()), StandardCharsets.UTF_8);
            return text.substring(Math.max(0, text.length() - LOG_TAIL_CHARS_MAX));
        } catch (IOException e) {
            return e.toString();
        }
    }

    private static int freePorts(String listen) throws IOException {
        InetAddress host = InetAddress.getByName(listen);
        for (int i = 0; i < PORT_TRIES_MAX; i++) {
            int base = ThreadLocalRandom.current().nextInt(PORT_MIN, PORT_MAX - PORTS);
            if (allFree(host, base)) {
                return base;
            }
        }
        throw new IOException("no " + PORTS + " free ports in a row on " + listen);
    }

    private static boolean allFree(InetAddress host, int base) {
        for (int at = base; at < base + PORTS; at++) {
            try (ServerSocket socket = new ServerSocket()) {
                socket.setReuseAddress(true);
                socket.bind(new InetSocketAddress(host, at));
            } catch (IOException e) {
                return false;
            }
        }
        return true;
    }
}
