package io.github.apogeemq.interop;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Pattern;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/** The mqadmin program, run in this JVM: what it prints is what a user sees. */
final class MqadminCommand extends MQAdminStartup {
    /** Of the error stream: which exceptions there were, without where in the tool they passed. */
    private static final Pattern EXCEPTION = Pattern.compile("^(Caused by: )?[\\w.$]+(Exception|Error)\\b.*");

    private static final int WAKE_MILLIS = 20;

    private MqadminCommand() {
    }

    static synchronized List<String> run(List<String> args) {
        SUB_COMMANDS.clear(); // commands keep their clients, which a second run would find closed
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        PrintStream outBefore = System.out;
        PrintStream errBefore = System.err;
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
        Thread waker = wake(Thread.currentThread());
        try {
            main(args.toArray(String[]::new));
        } finally {
            waker.interrupt();
            System.setOut(outBefore);
            System.setErr(errBefore);
        }
        List<String> lines = new ArrayList<>();
        out.toString(StandardCharsets.UTF_8).lines().forEach(lines::add);
        err.toString(StandardCharsets.UTF_8).lines().filter(line -> EXCEPTION.matcher(line).matches()).forEach(lines::add);
        return lines;
    }

    /** A client that is shut down waits for its thread of events, which looks up every three seconds only: it is woken. */
    private static Thread wake(Thread command) {
        Thread waker = new Thread(() -> {
            try {
                while (true) {
                    Thread.sleep(WAKE_MILLIS);
                    if (Arrays.stream(command.getStackTrace()).anyMatch(MqadminCommand::isShutdown)) {
                        Thread.getAllStackTraces().keySet().stream()
                            .filter(thread -> thread.getName().equals("NettyEventExecutor")).forEach(Thread::interrupt);
                    }
                }
            } catch (InterruptedException e) {
                // the command is done
            }
        });
        waker.start();
        return waker;
    }

    private static boolean isShutdown(StackTraceElement frame) {
        return frame.getClassName().endsWith(".ServiceThread") && frame.getMethodName().equals("shutdown");
    }
}
