"""Runs one test file with pytest, if that is installed, or else with unittest.

What the tests did is written as one JSON object a line to what was standard output;
what they print goes to standard error. Package cleanroom reads it.
"""
import importlib.util
import json
import os
import sys
import time

report = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
os.dup2(2, 1)
path, only = sys.argv[1], set(sys.argv[2:])
sys.argv = [path]
sys.dont_write_bytecode = True


def say(event, name, seconds=0.0, output=""):
    report.write(json.dumps({"event": event, "name": name, "seconds": round(seconds, 6), "output": output}) + "\n")
    report.flush()


def with_pytest():
    import pytest

    class Reporter:
        def pytest_runtest_logreport(self, report):
            # The id without the file: "TestPut::test_empty[1]".
            name = report.nodeid.split("::", 1)[-1]
            if report.when == "call" or report.outcome != "passed":
                event = {"passed": "pass", "failed": "fail", "skipped": "skip"}[report.outcome]
                say(event, name, report.duration, report.longreprtext if event == "fail" else "")

        def pytest_collectreport(self, report):
            if report.failed:
                say("fail", "", 0.0, report.longreprtext)

    args = ["-q", "-p", "no:cacheprovider", "--rootdir", os.getcwd()]
    targets = [path + "::" + name for name in sorted(only)] or [path]
    status = pytest.main(args + targets, plugins=[Reporter()])
    if status == pytest.ExitCode.NO_TESTS_COLLECTED:
        sys.stderr.write("no tests in " + path + "\n")
    return int(status)


def with_unittest():
    import unittest

    class Result(unittest.TestResult):
        def startTest(self, test):
            super().startTest(test)
            self.started, self.subtests = time.perf_counter(), False

        def tell(self, event, test, output=""):
            # The id without the module: "TestPut.test_empty".
            name = test.id()
            name = name[len(module) + 1:] if name.startswith(module + ".") else name
            say(event, name.replace(".", "::", 1), time.perf_counter() - getattr(self, "started", time.perf_counter()), output)

        def addSuccess(self, test):
            if not self.subtests:
                self.tell("pass", test)

        def addFailure(self, test, err):
            super().addFailure(test, err)
            self.tell("fail", test, self.failures[-1][1])

        def addError(self, test, err):
            super().addError(test, err)
            self.tell("fail", test, self.errors[-1][1])

        def addSkip(self, test, reason):
            self.tell("skip", test, reason)

        def addExpectedFailure(self, test, err):
            self.tell("pass", test)

        def addUnexpectedSuccess(self, test):
            super().addUnexpectedSuccess(test)
            self.tell("fail", test, "passes, and is expected to fail\n")

        def addSubTest(self, test, subtest, err):
            super().addSubTest(test, subtest, err)
            if err is not None:
                self.subtests = True
                self.tell("fail", subtest, self._exc_info_to_string(err, test))

    # As `python -m unittest tests/test_x.py`: the root of the tree is on the path.
    module = os.path.splitext(path)[0].replace(os.sep, ".")
    sys.path.insert(0, os.getcwd())
    if not all(part.isidentifier() for part in module.split(".")):
        module = os.path.splitext(os.path.basename(path))[0]
        sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    suite = unittest.defaultTestLoader.loadTestsFromName(module)
    result = Result()
    suite.run(result)
    if result.testsRun == 0 and result.wasSuccessful():
        sys.stderr.write("no unittest in " + path + "; a file for pytest needs pytest among the requirements\n")
        return 5
    return 0 if result.wasSuccessful() else 1


status = with_pytest() if importlib.util.find_spec("pytest") else with_unittest()
say("end", "")
sys.stderr.flush()
os._exit(status) if status else sys.exit(0)
