package io.github.apogeemq.interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/** What a command printed, with what must differ between two nodes or two runs masked, and compared. */
final class MqadminOutput {
    /** Masks, in the order in which they are applied; the comment says why the values differ. */
    private static final String[][] MASKS = {
        // Remarks are for people: ours name the value and the remedy. The exception and the code are compared.
        {"(CODE: \\d+ +DESC: ).*", "$1REMARK"},
        // Files of this run.
        {"/([^\\s\"=]*/)?mqadmin-(apogee|original)-\\d+", "DIR"},
        // Clients of mqadmin itself, and their groups: they come and go.
        {"^producer group \\(CLIENT_INNER_PRODUCER\\).*|^(%RETRY%)?(TOOLS_CONSUMER|PullGroup)( .*)?$|^\\s*\"JAVA%V\\w+\"$", ""},
        // The queue for retries, once its consumer has asked for the route: that it does every 30 s.
        {"^%RETRY%OnlineGroup +broker-a .*", ""},
        // Names of clients: host, process, instance; what Java calls its objects.
        {"(\\d+\\.\\d+\\.\\d+\\.\\d+|[0-9a-f]*:[0-9a-f:]+(%\\w+)?)@[\\w#-]+", "CLIENT"},
        {"-(apogee|original)$", "-NODE"},
        {"(\\$\\$Lambda\\$\\d+/0x)?(?<=[\\w$/])[0-9a-f]*@[0-9a-f]{5,8}$", "OBJECT"},
        // Ids have the sender's address, process and clock, or the broker's address and the log position.
        {"\\b[0-9A-F]{32,}\\b", "ID"},
        // Positions and sizes in the log: Apogee's state is in it too, and each record ends in a property with its checksum.
        {"__CRC32#=\\d+, |, __CRC32#=\\d+", ""},
        {"(CommitLog Offset: +|commitLogOffset=|physicOffset=|physicSize=|storeSize=|ID@)\\d+", "$1POSITION"},
        // Clocks and durations.
        {"\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d(,\\d{3})?", "TIME"},
        {"(?<![\\d.])20\\d{12}(\\d{3})?\\b", "TIME"},
        {"(?<![\\d.])1[6-9]\\d{11}\\b", "MILLIS"},
        {"spentTimeMills=\\d+", "DURATION"},
        {"\\brt=\\d+ms|(?<=\\b(true|false) {1,20})\\d+$", "DURATION"},
        // Rates and shares.
        {"(?<![\\d.])\\d+\\.\\d+(E-?\\d+)?(?![\\d.])", "RATE"},
        // By how many seconds timers are late, in clusterList: the original reads its own in steps of a second.
        {"\\b[01]-(?=\\d+\\(RATEw, )", "SECONDS-"},
        // Versions of tables: how many changes there were.
        {"\"counter\":\\d+", "\"counter\":COUNT"},
        // Addresses and files: ports are free ones, and the layout of the directory is each one's own.
        {"^(listenPort|storePathRootDir|configStorePath|kvConfigPath) += .+", "$1 = OWN"},
        {"(commitLogDiskRatio_)\\S+?:? ", "$1DIR "},
        {"127\\.0\\.0\\.1:\\d+", "ADDRESS"},
        // Columns are as wide as what was masked.
        {" +", " "},
        // Messages of the last day, in statsAll: the original samples every ten seconds.
        {"RATE (RATE )?\\d+ (\\d+|NO_CONSUMER)$", "RATE $1COUNT COUNT"},
    };

    /** In a scenario: every option whose name Apogee does not print. One that both have may not hide behind it. */
    private static final String OTHER_OPTIONS = "NAME = ...";

    private MqadminOutput() {
    }

    static List<String> mask(MqadminStep step, MqadminNode node, List<String> lines) {
        List<String> masked = new ArrayList<>();
        for (String line : lines) {
            line = line.replace(node.variables.get("namesrv"), "NAMESRV").replace(node.variables.get("broker"), "BROKER");
            for (String[] mask : MASKS) {
                line = Pattern.compile(mask[0]).matcher(line).replaceAll(mask[1]);
            }
            if (step.anyNumbers) {
                line = line.replaceAll("RATE|MILLIS|(?<![\\w.])-?\\d+", "N").replaceAll("N( N)+", "N");
            }
            if (!line.isBlank()) {
                masked.add(line.trim());
            }
        }
        return masked;
    }

    /** What is wrong with the two outputs, given the differences that the step declares; empty when nothing is. */
    static String compare(MqadminStep step, List<String> original, List<String> apogee) {
        List<String> missing = without(original, apogee);
        List<String> added = without(apogee, original);
        StringBuilder wrong = new StringBuilder();
        if (step.missing.contains(OTHER_OPTIONS)) {
            Set<String> ours = apogee.stream().map(MqadminOutput::option).collect(Collectors.toSet());
            missing = missing.stream().map(line -> !option(line).isEmpty() && !ours.contains(option(line)) ? OTHER_OPTIONS : line)
                .collect(Collectors.toList());
        }
        undeclared(wrong, "  - ", missing, step.missing);
        undeclared(wrong, "  + ", added, step.added);
        if (!step.anyOrder && !without(original, missing).equals(without(apogee, added))) {
            wrong.append("the same lines in another order\n");
        }
        return wrong.toString();
    }

    /** The name of an option, as getBrokerConfig prints it; empty where a line is none. */
    private static String option(String line) {
        int end = line.indexOf(" =");
        return end < 0 ? "" : line.substring(0, end);
    }

    private static void undeclared(StringBuilder wrong, String sign, List<String> found, List<String> declared) {
        for (String line : found) {
            if (declared.stream().noneMatch(matching(line))) {
                wrong.append(sign).append(line).append('\n');
            }
        }
        for (String line : declared) {
            if (found.stream().noneMatch(other -> matching(other).test(line))) {
                wrong.append("no longer differs, take it off the scenario:\n").append(sign).append(line).append('\n');
            }
        }
    }

    private static Predicate<String> matching(String line) {
        return declared -> declared.endsWith("...")
            ? line.startsWith(declared.substring(0, declared.length() - 3)) : line.equals(declared);
    }

    /** The lines that are left when each of the others is taken off once. */
    private static List<String> without(List<String> lines, List<String> others) {
        List<String> left = new ArrayList<>(others);
        return lines.stream().filter(line -> !left.remove(line)).collect(Collectors.toList());
    }
}
