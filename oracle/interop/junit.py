#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["junitparser>=4", "lxml>=5"]
# ///
"""A JUnit report is what its readers take: `junitparser` reads it, its counts are those of its cases, names are unique.

  python oracle/interop/junit.py REPORT.xml [--strict]

--strict checks besides that it holds only what the Jenkins xUnit schema knows (of what we may write). The rules stand
below as a table, from which the XML schema is made.
"""

import argparse
import xml.etree.ElementTree as ElementTree

from junitparser import JUnitXml
from lxml import etree

from checks import Table, end

TIME = r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]{0,3})?"
# element: (children in any order and number, attributes; `!` is required, `#` is a time). Without children: text.
SCHEMA = {
    "testsuites": (["testsuite"], "name time# tests failures errors"),
    "testsuite": (["testsuite", "properties", "testcase", "system-out", "system-err"],
                  "name! tests! failures! errors! time# group skipped timestamp hostname id package file log url version"),
    "testcase": (["skipped", "error", "failure", "system-out", "system-err"], "name! time classname group"),
    "properties": (["property"], ""),
    "property": (None, "name! value!"),
    "skipped": (None, "type message"),
    "error": (None, "type message"),
    "failure": (None, "type message"),
    "system-out": (None, ""),
    "system-err": (None, ""),
}


def schema():
    """The table as an XML schema."""
    xs = "{http://www.w3.org/2001/XMLSchema}"
    root = etree.Element(xs + "schema", nsmap={"xs": xs[1:-1]})
    seconds = etree.SubElement(etree.SubElement(root, xs + "simpleType", name="seconds"), xs + "restriction", base="xs:string")
    etree.SubElement(seconds, xs + "pattern", value=TIME)
    for name, (children, attributes) in SCHEMA.items():
        element = etree.SubElement(etree.SubElement(root, xs + "element", name=name), xs + "complexType")
        if children is None:
            element.set("mixed", "true")
        else:
            choice = etree.SubElement(element, xs + "choice", minOccurs="0", maxOccurs="unbounded")
            for child in children:
                etree.SubElement(choice, xs + "element", ref=child)
        for attribute in attributes.split():
            extra = {"use": "required"} if "!" in attribute else {}
            etree.SubElement(element, xs + "attribute", name=attribute.strip("!#"), type="seconds" if "#" in attribute else "xs:string", **extra)
    return etree.XMLSchema(root)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("report", help="the JUnit XML")
    args.add_argument("--strict", action="store_true", help="validate against the schema")
    a = args.parse_args()
    table = Table()
    try:
        root = ElementTree.parse(a.report).getroot()
    except ElementTree.ParseError as e:
        table.add("well-formed", False, str(e))
        return table.finish()
    table.add("well-formed", True)
    suites = list(JUnitXml.fromfile(a.report))
    cases = [(suite, case) for suite in suites for case in suite]
    table.add("junitparser reads it", bool(cases), f"{len(suites)} suites, {len(cases)} cases")
    names = [(case.classname, case.name) for _, case in cases]
    table.add("names are unique", len(set(names)) == len(names), f"{len(names) - len(set(names))} repeated")
    table.add("every case has a classname", all(case.classname for _, case in cases))
    many = [case.name for _, case in cases if sum(r._tag in ("failure", "error") for r in case.result) > 1]
    table.add("at most one failure or error a case", not many, ", ".join(many[:3]))
    silent = [case.name for _, case in cases for r in case.result if not (r.message or r.text)]
    table.add("every result says why", not silent, ", ".join(silent[:3]))
    whole = dict.fromkeys(("tests", "failures", "errors"), 0)
    for suite in suites:
        found = [r._tag for case in suite for r in case.result]
        counted = {"tests": len(list(suite)), "failures": found.count("failure"), "errors": found.count("error"), "skipped": found.count("skipped")}
        stated = {k: getattr(suite, k) for k in counted}
        table.add(f"counts of {suite.name}", all(stated[k] in (v, None) for k, v in counted.items()), f"states {stated}, has {counted}" if stated != counted else "")
        for k in whole:
            whole[k] += counted[k]
    stated = {k: int(root.get(k)) for k in whole if root.get(k) is not None}
    table.add("counts of the whole", root.tag == "testsuites" and all(whole[k] == v for k, v in stated.items()), f"{root.tag} states {stated}, has {whole}")
    if a.strict:
        rules = schema()
        good = rules.validate(etree.parse(a.report))
        table.add("Jenkins schema", good, "; ".join(f"line {e.line}: {e.message}" for e in list(rules.error_log)[:3]))
    return table.finish()


if __name__ == "__main__":
    end(main)
