package io.github.apogeemq.interop;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.stream.Stream;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;
import org.junit.jupiter.api.Assumptions;

/**
 * Where the clients of a test connect. All tests that neither kill nor restart the broker share
 * one, which lives as long as the JVM. With INTEROP_NAMESRV=host:port (and INTEROP_BROKER, by
 * default port 10911 of the same host) it is a cluster that runs already.
 */
final class Cluster implements AutoCloseable {
    private static final String EXTERNAL = ApogeeProcess.setting("INTEROP_NAMESRV", null);
    private static Cluster shared;

    final String nameServer;
    final String broker;
    final ApogeeProcess process; // null when it is external
    private final Path dir;
    private DefaultMQAdminExt admin;

    private Cluster(String nameServer, String broker, ApogeeProcess process, Path dir) {
        this.nameServer = nameServer;
        this.broker = broker;
        this.process = process;
        this.dir = dir;
    }

    static synchronized Cluster shared() throws Exception {
        if (shared == null) {
            shared = EXTERNAL == null ? start("127.0.0.1") : external();
            Cluster started = shared;
            Runtime.getRuntime().addShutdownHook(new Thread(started::closeQuietly));
        }
        return shared;
    }

    private static Cluster external() {
        String otherwise = EXTERNAL.substring(0, EXTERNAL.lastIndexOf(':')) + ":10911";
        return new Cluster(EXTERNAL, ApogeeProcess.setting("INTEROP_BROKER", otherwise), null, null);
    }

    /** A cluster of this test's own, which it may kill and configure. Skips the test when that cannot be had. */
    static Cluster own(String listen, String... flags) throws Exception {
        Assumptions.assumeTrue(EXTERNAL == null,
            "the test needs a broker of its own, which it may kill: not the external one at " + EXTERNAL);
        return start(listen, flags);
    }

    private static Cluster start(String listen, String... flags) throws Exception {
        Path dir = Files.createTempDirectory("apogee-interop-");
        ApogeeProcess process = new ApogeeProcess(dir, listen, flags);
        process.start();
        return new Cluster(process.nameServer(), process.broker(), process, dir);
    }

    synchronized DefaultMQAdminExt admin() throws Exception {
        if (admin == null) {
            admin = new DefaultMQAdminExt(10_000);
            admin.setNamesrvAddr(nameServer);
            admin.setInstanceName(Names.unique("admin"));
            admin.start();
        }
        return admin;
    }

    private void closeQuietly() {
        try {
            close();
        } catch (Exception e) {
            System.err.println(e.getMessage());
        }
    }

    @Override
    public void close() throws Exception {
        if (admin != null) {
            admin.shutdown();
        }
        if (process == null) {
            return;
        }
        process.stop();
        try (Stream<Path> files = Files.walk(dir)) {
            files.sorted(Comparator.reverseOrder()).forEach(file -> file.toFile().delete());
        }
    }
}
