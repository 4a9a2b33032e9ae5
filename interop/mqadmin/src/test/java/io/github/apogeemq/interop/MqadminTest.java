package io.github.apogeemq.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.fail;

import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Predicate;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/** Every command of scenario.txt prints on Apogee what it prints on the original, but for the differences of docs/MQADMIN.md. */
class MqadminTest {
    /** What a group was reset to shows after its members' next rebalance, some statistics of the original after a minute. */
    private static final Duration WAIT_MAX = Duration.ofSeconds(90);

    /** What both printed, for who writes the scenario. */
    private static final Path OUTPUTS = Path.of("outputs.txt");

    private static MqadminNode apogee;
    private static MqadminNode original;

    @BeforeAll
    static void start() throws Exception {
        Files.deleteIfExists(OUTPUTS);
        apogee = MqadminNode.apogee();
        original = MqadminNode.original();
    }

    @AfterAll
    static void stop() throws Exception {
        for (MqadminNode node : new MqadminNode[] {apogee, original}) {
            if (node != null) {
                node.close();
            }
        }
    }

    private static List<MqadminStep> scenario() throws Exception {
        return MqadminStep.parse(Files.readAllLines(Path.of(MqadminTest.class.getResource("/scenario.txt").toURI())));
    }

    @TestFactory
    Stream<DynamicTest> printsWhatTheOriginalPrints() throws Exception {
        return scenario().stream().map(step -> DynamicTest.dynamicTest(step.line, () -> check(step)));
    }

    private static void check(MqadminStep step) throws Exception {
        List<String> theirs = output(original, step);
        List<String> ours = output(apogee, step);
        Files.write(OUTPUTS, List.of("#### " + step.line, "-- original", String.join("\n", theirs), "-- apogee",
            String.join("\n", ours)), StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        String wrong = MqadminOutput.compare(step, theirs, ours);
        if (!wrong.isEmpty()) {
            fail(step.line + "\n" + wrong + "\n-- the original, whole:\n" + String.join("\n", theirs)
                + "\n-- Apogee, whole:\n" + String.join("\n", ours));
        }
    }

    private static List<String> output(MqadminNode node, MqadminStep step) throws Exception {
        AtomicReference<List<String>> lines = new AtomicReference<>(node.command(step.words));
        Predicate<String> printed = regex -> lines.get().stream().anyMatch(Pattern.compile(regex).asPredicate());
        try {
            Await.until(step.line, WAIT_MAX, () -> {
                if (step.until.stream().allMatch(printed)) {
                    return true;
                }
                lines.set(node.command(step.words));
                return false;
            });
        } catch (AssertionError e) {
            throw new AssertionError(node.name + " never printed " + step.until + ", at last:\n" + String.join("\n", lines.get()));
        }
        step.keep.forEach((name, pattern) -> {
            Matcher match = pattern.matcher(String.join("\n", lines.get()));
            if (!match.find()) {
                throw new AssertionError(node.name + " did not print " + pattern + ":\n" + String.join("\n", lines.get()));
            }
            node.variables.put(name, match.group(1));
        });
        return MqadminOutput.mask(step, node, lines.get());
    }

    /** The page and the scenario name the same commands: neither hides a difference nor keeps one that is gone. */
    @Test
    void differencesAreThoseOfTheDocumentation() throws Exception {
        Pattern row = Pattern.compile("^\\| `(\\w+)[^`]*` \\|");
        TreeSet<String> documented = Files.readAllLines(Path.of(System.getProperty("interop.root"), "docs/MQADMIN.md")).stream()
            .map(row::matcher).filter(Matcher::find).map(match -> match.group(1)).collect(Collectors.toCollection(TreeSet::new));
        TreeSet<String> declared = scenario().stream()
            .filter(step -> !step.missing.isEmpty() || !step.added.isEmpty())
            .map(step -> step.command).collect(Collectors.toCollection(TreeSet::new));
        assertEquals(documented, declared);
    }
}
