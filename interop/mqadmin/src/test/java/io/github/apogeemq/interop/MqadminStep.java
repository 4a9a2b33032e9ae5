package io.github.apogeemq.interop;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * One command of the scenario, and what is known about its output. The file has one command a line, with single quotes around
 * words with blanks; ${namesrv}, ${broker} and values that were kept before are filled in for each node. Lines below it:
 *
 * <pre>
 *   ~              its lines come in any order
 *   #              its numbers are figures of the moment
 *   ? REGEX        it is repeated until a line has this (and that, when there are more): it arrives in the background
 *   = NAME REGEX   the first group of the first match is kept as ${NAME}
 *   - LINE         a line of the original that Apogee does not print, on purpose; the reason stands in docs/MQADMIN.md
 *   + LINE         a line of Apogee that the original does not print, on purpose
 * </pre>
 *
 * A line that ends in "..." after - or + stands for every line that begins so; "- NAME = ..." for every option of the original whose
 * name Apogee does not print.
 */
final class MqadminStep {
    private static final Pattern WORD = Pattern.compile("'([^']*)'|(\\S+)");

    final String line;
    /** The command of mqadmin that this is, or whose file it shows. */
    final String command;
    final List<String> words = new ArrayList<>();
    boolean anyOrder;
    boolean anyNumbers;
    final List<String> until = new ArrayList<>();
    final Map<String, Pattern> keep = new LinkedHashMap<>();
    final List<String> missing = new ArrayList<>();
    final List<String> added = new ArrayList<>();

    private MqadminStep(String line, String commandBefore) {
        this.line = line;
        Matcher word = WORD.matcher(line);
        while (word.find()) {
            words.add(word.group(1) == null ? word.group(2) : word.group(1));
        }
        command = line.startsWith("@") ? commandBefore : words.get(0);
    }

    static List<MqadminStep> parse(List<String> lines) {
        List<MqadminStep> steps = new ArrayList<>();
        MqadminStep step = null;
        for (String line : lines) {
            if (line.isBlank() || line.startsWith("#")) {
                continue;
            }
            if (!line.startsWith("  ")) {
                step = new MqadminStep(line, step == null ? "" : step.command);
                steps.add(step);
                continue;
            }
            step.note(line.trim());
        }
        return steps;
    }

    private void note(String note) {
        String rest = note.substring(1).trim();
        switch (note.charAt(0)) {
            case '~':
                anyOrder = true;
                break;
            case '#':
                anyNumbers = true;
                break;
            case '?':
                until.add(rest);
                break;
            case '=':
                String[] kept = rest.split(" +", 2);
                keep.put(kept[0], Pattern.compile(kept[1]));
                break;
            case '-':
                missing.add(rest);
                break;
            case '+':
                added.add(rest);
                break;
            default:
                throw new IllegalArgumentException("not a note on " + line + ": " + note);
        }
    }
}
