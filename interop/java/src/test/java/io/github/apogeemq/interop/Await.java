package io.github.apogeemq.interop;

import java.time.Duration;
import java.util.concurrent.Callable;

/** Waits for a condition, never for a time alone. */
final class Await {
    /** The bound of every wait that is not about speed. */
    static final Duration MAX = Duration.ofSeconds(30);
    private static final long POLL_MILLIS = 10;

    private Await() {
    }

    static void until(String what, Callable<Boolean> holds) throws Exception {
        until(what, MAX, holds);
    }

    static void until(String what, Duration max, Callable<Boolean> holds) throws Exception {
        long deadline = System.nanoTime() + max.toNanos();
        while (!holds.call()) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("waited " + max + " in vain: " + what);
            }
            Thread.sleep(POLL_MILLIS);
        }
    }
}
